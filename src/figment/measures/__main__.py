"""``python -m figment.measures > docs/measures.md``"""

from figment.measures import documentation

if __name__ == "__main__":
    print(documentation(), end="")
