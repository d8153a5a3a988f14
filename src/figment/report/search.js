/* The list of all classes: found by words of theirs, in any order, and sorted by any column. Without this script it is a list to scroll. */
(() => {
  const list = document.querySelector("#list"), body = list.tBodies[0], rows = [...body.rows];
  const field = document.querySelector("#find"), found = document.querySelector("#found");
  const plain = text => text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();
  const texts = new Map(rows.map(row => [row, plain([...row.querySelectorAll("bdi")].map(name => name.textContent).join(" "))]));
  const number = text => text === "–" ? -Infinity : parseFloat(text.replace("−", "-").replaceAll(",", ""));
  const show = () => {
    const words = plain(field.value).split(/\s+/).filter(Boolean);
    let n = 0;
    for (const row of rows) n += !(row.hidden = !words.every(word => texts.get(row).includes(word)));
    found.textContent = words.length ? `${n} of ${rows.length} classes` : "";
  };
  [...list.tHead.rows[0].cells].forEach((head, k) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const falls = head.ariaSort !== "descending" && head.className === "number";
      for (const other of list.tHead.rows[0].cells) other.ariaSort = null;
      head.ariaSort = falls ? "descending" : "ascending";
      const value = row => row.cells[k].textContent, sign = falls ? -1 : 1;
      const compare = head.className === "number" ? (a, b) => number(value(a)) - number(value(b)) : (a, b) => value(a).localeCompare(value(b));
      body.append(...rows.sort((a, b) => sign * compare(a, b)));
    });
  });
  field.addEventListener("input", show);
  field.closest("[hidden]").hidden = false;
  show();
})();
