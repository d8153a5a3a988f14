"""Captions from a chat server: a real HTTP server on loopback that answers, stumbles and lies on purpose."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from email.utils import formatdate
from typing import Any

import numpy as np
import pytest

from chatting import Server, breaks_off, captions, completion, drips, fails, hangs_up, is_slow, says
from figment import guard, records, shards
from figment.errors import FigmentError
from figment.prompts.answered import captions_in
from figment.prompts.chat import Chat, instruction
from figment.recipe import validate
from figment.run import run_recipe
from figment.task import Task, load_task
from figment.types import Prompt

TASK = Task(
    class_names=["cat", "dog"], synonyms={"cat": ["kitten"]}, contexts=["at sea"], templates=["a photo of a {}."]
)
KEY = "sk-secret-1234"


def chat(server: Server, **options: Any) -> Chat:
    made = Chat(server.url, "tiny", **{"per_request": 5, "retries": 3, "timeout": 5, **options})
    made.server.wait = 0.01
    return made


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def texts(prompts: list[Prompt], label: int) -> list[str]:
    return [p.text for p in prompts if p.label == label]


# ---- what comes out --------------------------------------------------------------------------------------------------


def test_prompts_say_their_class_are_different_and_know_their_source(server):
    prompts = chat(server)(TASK, 12, rng())
    assert [p.id for p in prompts][:2] == ["000-cat/00000", "000-cat/00001"] and len(prompts) == 24
    for label, name in enumerate(TASK.class_names):
        assert len(set(texts(prompts, label))) == 12 and all(name in text for text in texts(prompts, label))
    assert {p.source for p in prompts} == {"chat tiny"} and all(p.group == p.id for p in prompts)
    assert len(server.asked) == 6  # 12 captions at 5 a request, for 2 classes


def test_no_two_requests_are_alike_and_all_carry_the_settings(server):
    chat(server, temperature=0.3, top_p=None, extra={"seed": 7, "min_p": 0.1})(TASK, 12, rng())
    assert len({json.dumps(body, sort_keys=True) for body in server.asked}) == 6
    for body in server.asked:
        assert body["model"] == "tiny" and body["temperature"] == 0.3 and body["max_tokens"] == 2048
        assert body["seed"] == 7 and body["min_p"] == 0.1 and "top_p" not in body


def test_null_takes_a_field_out(server):
    chat(server, extra={"seed": None, "max_tokens": None, "max_completion_tokens": 9})(TASK, 2, rng())
    assert all("seed" not in b and "max_tokens" not in b and b["max_completion_tokens"] == 9 for b in server.asked)


def test_the_seed_decides_and_the_order_of_the_answers_does_not(server):
    one = chat(server, parallel=1)(TASK, 20, rng(0))
    server.stumbles = [is_slow, is_slow]
    assert chat(server, parallel=8)(TASK, 20, rng(0)) == one
    assert chat(server)(TASK, 20, rng(1)) != one


def test_classes_do_not_depend_on_one_another_in_the_seed(server):
    chat(server)(TASK, 5, rng())
    chat(server)(TASK.model_copy(update={"class_names": ["bird", "cat"]}), 5, rng())
    seeds = [b["seed"] for b in server.asked for _ in [0] if '"cat"' in b["messages"][0]["content"]]
    assert len(seeds) == 2 and seeds[0] == seeds[1]


def test_repeats_and_captions_without_the_class_are_made_up_for(server, capsys):
    server.answer = lambda name, k, seed: json.dumps(
        ["A thing on a shelf.", f"A {name} on a shelf.", f"a {name} on a shelf", *json.loads(captions(name, 2, seed))]
    )
    prompts = chat(server)(TASK, 7, rng())
    assert len(texts(prompts, 0)) == len(set(texts(prompts, 0))) == 7
    assert "A thing on a shelf" not in texts(prompts, 0) and {p.source for p in prompts} == {"chat tiny"}
    said = capsys.readouterr().out
    assert "repeated" in said and "without the class name" in said


def test_synonyms_and_plurals_say_the_class(server):
    server.answer = lambda name, k, seed: f"1. Two {name}s asleep in {seed} boxes.\n2. A kitten with {seed} dog toys."
    prompts = chat(server, per_request=2)(TASK, 2, rng())
    assert "kitten" in texts(prompts, 0)[1] and "Two dogs" in texts(prompts, 1)[0]


def test_a_class_that_is_refused_gets_templates_and_is_named(server, capsys):
    server.answer = lambda name, k, seed: "I cannot help with that." if name == "dog" else captions(name, k, seed)
    prompts = chat(server, max_tries=2)(TASK, 5, rng())
    assert len(texts(prompts, 0)) == 5 and texts(prompts, 1) == ["a photo of a dog."]
    assert prompts[-1].source == "template 0"
    said = capsys.readouterr().out
    assert "fewer than 5 for 1 of 2 classes (dog 0)" in said
    assert len(server.asked) == 3  # one for the cats, two tries for the dogs


def test_nothing_but_refusals_is_an_error_that_is_not_kept(server, tmp_path):
    server.answer = lambda *_: "Here are things:\n- A thing on a shelf."
    with pytest.raises(FigmentError, match="no sentence that can be a prompt, for any class.*without the class name"):
        chat(server)(TASK, 5, rng())
    server.answer = lambda *_: "As a language model I would rather not."
    with pytest.raises(
        FigmentError, match=r"8 of 8 answers held no caption; one of them: 'As a language model I would rather not\.'"
    ):
        chat(server, cache=tmp_path)(TASK, 5, rng())
    assert not list(tmp_path.iterdir())
    server.answer = lambda *_: ""
    with pytest.raises(FigmentError, match="nothing came"):
        chat(server, cache=tmp_path / "other")(TASK, 5, rng())
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "prompts.max_tokens: 2048"),
        ({"max_tokens": 64}, "prompts.max_tokens: 64"),
        ({"max_tokens": None}, "prompts.max_tokens is null"),
        ({"extra": {"max_tokens": None, "max_completion_tokens": 99}}, "prompts.extra.max_completion_tokens: 99"),
        ({"extra": {"max_tokens": 77}}, "prompts.extra.max_tokens: 77"),
    ],
)
def test_answers_that_end_in_the_middle_of_a_thought_name_the_limit(server, options, said):
    server.stumbles = [lambda h: h.reply(200, completion(None, "length")) or True] * 8
    with pytest.raises(FigmentError, match=rf"8 of 8 answers ended at .*{re.escape(said)}.*Raise it"):
        chat(server, **options)(TASK, 5, rng())


def test_where_only_some_answers_are_cut_off_the_limit_is_named_too(server, capsys):
    server.finish_reason = "length"
    server.answer = lambda name, k, seed: captions(name, k, seed) if name == "cat" else ""
    assert len(chat(server, parallel=1, max_tries=3)(TASK, 4, rng())) == 5  # a template for the dogs
    assert "answers ended at prompts.max_tokens: 2048" in capsys.readouterr().out


def test_a_kept_answer_without_captions_is_asked_for_again(server, tmp_path):
    """Such as one whose thoughts an earlier version took for captions."""
    first = chat(server, cache=tmp_path)(TASK, 5, rng())
    for path in tmp_path.glob("*.json"):
        told = dict(records.read_answer(path))
        told.pop("checksum")
        records.write_answer(path, {**told, "answer": completion("<think>A cat on a shelf.")})
    assert chat(server, cache=tmp_path)(TASK, 5, rng()) == first and len(server.asked) == 4


def test_the_name_need_not_be_said(server):
    server.answer = lambda name, k, seed: f'["Something small on shelf {seed}."]'
    assert len(chat(server, require_name=False, per_request=1)(TASK, 1, rng())) == 2


# ---- what goes wrong -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stumble", [fails(500), fails(503), fails(429), hangs_up, breaks_off, says(None)])
def test_what_passes_is_asked_again(server, stumble):
    server.stumbles = [stumble, stumble]
    prompts = chat(server, parallel=1)(TASK, 5, rng())
    assert [p.source for p in prompts] == ["chat tiny"] * 10 and len(server.asked) == 4


def test_garbage_that_is_no_json_is_asked_again(server):
    server.stumbles = [lambda h: h.reply(200, b"<html>starting</html>") or True, lambda h: h.reply(200, [1]) or True]
    assert len(chat(server, parallel=1)(TASK, 5, rng())) == 10


@pytest.mark.slow
def test_a_server_that_hangs_is_left_after_the_timeout(server):
    server.stumbles = [is_slow]
    assert len(chat(server, timeout=0.1, parallel=1)(TASK, 5, rng())) == 10
    assert len(server.asked) == 3


OK = b"HTTP/1.0 200 OK\r\n"


@pytest.mark.parametrize(
    "before", [(), (OK,), (OK, b"Content-Length: 9999\r\n\r\n"), (OK, b"\r\n"), (b"HTTP/1.0 500 no\r\n\r\n",)]
)
def test_a_server_that_drips_is_left_at_the_deadline(server, before):
    """In the status line, the headers, a body of known and unknown length, and that of an error."""
    server.stumbles = [drips(*before)]
    started = time.monotonic()
    assert len(chat(server, deadline=0.2, parallel=1)(TASK, 5, rng())) == 10
    assert time.monotonic() - started < 2 and len(server.asked) == 3


def test_a_server_that_only_drips_names_the_settings(server):
    server.stumbles = [drips(OK)] * 2
    with pytest.raises(FigmentError, match=r"no answer in time.*prompts\.timeout: 5 s.*prompts\.deadline: 0\.1 s"):
        chat(server, deadline=0.1, parallel=1, retries=1)(TASK, 5, rng())


def test_an_answer_that_is_too_long_or_too_deep_is_asked_for_again(server, monkeypatch):
    monkeypatch.setitem(guard.MOST, "answer of a server", 2_000)
    server.stumbles = [lambda h: h.reply(200, b'{"a": "%s"}' % (b"x" * 2_000)) or True]
    server.stumbles += [lambda h: h.reply(200, b'{"a": %s}' % (b"[" * 100 + b"]" * 100)) or True]
    assert len(chat(server, parallel=1, retries=2)(TASK, 5, rng())) == 10 and len(server.asked) == 4


@pytest.mark.slow
@pytest.mark.parametrize("after", ["1", lambda: formatdate(time.time() + 2, usegmt=True)])
def test_retry_after_is_honoured(server, after):
    server.stumbles = [fails(429, Retry_After=after if isinstance(after, str) else after())]
    started = time.monotonic()
    chat(server, parallel=1)(TASK, 5, rng())
    assert 0.9 < time.monotonic() - started < 4


def test_what_does_not_pass_ends_with_the_servers_words(server, tmp_path):
    server.stumbles = [lambda _: False, *[fails(500, "CUDA out of memory")] * 9]
    with pytest.raises(
        FigmentError, match=r"no answer in 4 tries.*HTTP 500 \(CUDA out of memory\).*run the same command"
    ):
        chat(server, parallel=1, cache=tmp_path)(TASK, 5, rng())
    assert len(list(tmp_path.glob("*.json"))) == 1


def test_other_threads_stop_waiting_when_one_fails_for_good(server):
    server.stumbles = [fails(429, Retry_After="60"), fails(401)]
    started = time.monotonic()
    with pytest.raises(FigmentError, match="did not let us in"):
        chat(server, parallel=2)(TASK, 5, rng())
    assert time.monotonic() - started < 10


@pytest.mark.parametrize(
    ("stumble", "said"),
    [
        (fails(401, "bad key"), r"did not let us in: HTTP 401 \(bad key\).*prompts\.api_key_env"),
        (fails(404, "no such model"), r"does not know the model 'tiny'.*Did you mean 'tiny'.*It offers: tiny, large"),
        (fails(400, "unknown field seed"), r"refused a request: HTTP 400 \(unknown field seed\).*prompts\.extra"),
        (fails(302, "moved", Location="http://127.0.0.1:1/"), r"sends us elsewhere"),
    ],
)
def test_what_asking_again_cannot_mend_is_told_at_once(server, stumble, said):
    server.stumbles = [stumble] * 9
    with pytest.raises(FigmentError, match=said):
        chat(server, parallel=1)(TASK, 5, rng())
    assert len(server.asked) == 1


def test_no_server_there():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    made = Chat(f"http://127.0.0.1:{port}", "tiny", retries=1)
    made.server.wait = 0.01
    with pytest.raises(FigmentError, match=rf"127\.0\.0\.1:{port}/v1 gave no answer in 2 tries.*refused"):
        made(TASK, 5, rng())


@pytest.mark.parametrize("path", ["", "/", "/v1", "/v1/", "/v1/chat/completions"])
def test_the_address_with_and_without_its_path(server, path):
    base = server.url.removesuffix("/v1")
    assert len(Chat(base + path, "tiny", per_request=5)(TASK, 5, rng())) == 10


# ---- the key ---------------------------------------------------------------------------------------------------------


def test_the_key_goes_to_the_server_and_nowhere_else(server, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MY_KEY", f" {KEY}\n")
    writer = chat(server, api_key_env="MY_KEY", cache=tmp_path)
    writer(TASK, 5, rng())
    assert {h["Authorization"] for h in server.headers} == {f"Bearer {KEY}"}
    server.stumbles = [fails(401, f"the key {KEY} has expired")]
    with pytest.raises(FigmentError, match=r"the key \*\*\* has expired.*variable MY_KEY") as error:
        writer(TASK, 50, rng())
    kept = "".join(p.read_text() for p in tmp_path.rglob("*.json"))
    assert kept and KEY not in kept + str(error.value) + repr(writer.server) + "".join(capsys.readouterr())


@pytest.mark.parametrize(
    "echo",
    [
        lambda key: {"debug": {"headers": [f"Authorization: Bearer {key}"]}},
        lambda key: {key: 1},
        lambda key: {"choices": [{"message": {"content": f'["A cat with {key} on it.", "A dog with {key} on it."]'}}]},
    ],
)
def test_a_key_that_the_server_sends_back_with_an_answer_is_not_kept(server, tmp_path, monkeypatch, echo):
    monkeypatch.setenv("MY_KEY", KEY)
    answer = completion(json.dumps(["A cat on a shelf.", "A dog on a shelf."]))
    server.stumbles = [lambda h: h.reply(200, {**answer, **echo(KEY)}) or True] * 2
    prompts = chat(server, api_key_env="MY_KEY", cache=tmp_path, parallel=1, per_request=1)(TASK, 1, rng())
    kept = [p.read_text() for p in tmp_path.rglob("*.json")]
    assert len(kept) == len(prompts) == 2 and all("***" in text and KEY not in text for text in kept)
    assert not any(KEY in p.text for p in prompts)


def test_a_key_in_an_error_is_hidden_before_the_error_is_cut_short(server, monkeypatch):
    monkeypatch.setenv("MY_KEY", KEY)
    for padding in range(300 - len(KEY), 301):
        server.stumbles = [fails(400, "x" * padding + KEY)]
        with pytest.raises(FigmentError, match="refused a request") as error:
            chat(server, api_key_env="MY_KEY", parallel=1)(TASK, 1, rng())
        assert KEY[:4] not in str(error.value)


def test_a_models_name_that_holds_the_key_is_not_offered(server, monkeypatch):
    monkeypatch.setenv("MY_KEY", KEY)
    server.models = ["tiny", f"of {KEY}"]
    server.stumbles = [fails(404, "no such model")]
    with pytest.raises(FigmentError, match=r"It offers: tiny, of \*\*\*"):
        chat(server, api_key_env="MY_KEY", parallel=1)(TASK, 1, rng())


def test_a_stand_in_for_a_key_is_no_secret(server, monkeypatch):
    """Servers on one's own machine want one and do not read it; as a word of a caption it stays."""
    monkeypatch.setenv("MY_KEY", "shelf")
    assert all("shelf" in p.text for p in chat(server, api_key_env="MY_KEY")(TASK, 5, rng()))


def test_a_redirect_does_not_take_the_key_along(server, monkeypatch):
    other = Server()
    monkeypatch.setenv("MY_KEY", KEY)
    threading.Thread(target=other.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    server.stumbles = [fails(307, "moved", Location=f"{other.url}/chat/completions")]
    with pytest.raises(FigmentError, match="sends us elsewhere"):
        chat(server, api_key_env="MY_KEY", parallel=1)(TASK, 5, rng())
    assert not other.asked
    other.shutdown()
    other.server_close()


def test_a_key_that_is_missing_or_broken(server, monkeypatch):
    monkeypatch.delenv("MY_KEY", raising=False)
    with pytest.raises(FigmentError, match="variable MY_KEY, which is not set"):
        chat(server, api_key_env="MY_KEY")(TASK, 5, rng())
    monkeypatch.setenv("MY_KEY", "sk-one\nsk-two")
    with pytest.raises(FigmentError, match="signs that no key has") as error:
        chat(server, api_key_env="MY_KEY")(TASK, 5, rng())
    assert "sk-one" not in str(error.value) and not server.asked


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("api_key_env", KEY, "never the key itself"),
        ("base_url", "ftp://here/v1", "an address such as"),
        ("base_url", "file:///etc/passwd", "an address such as"),
        ("base_url", "http://me:pass-1234@here/v1", "no user or password"),
        ("base_url", "http://[here", "an address such as"),
        ("extra", {"messages": []}, "messages cannot be set"),
        ("temprature", 1, "Did you mean 'temperature'"),
    ],
)
def test_recipes_that_would_leak_or_fail(field, value, said):
    settings = {"kind": "chat", "base_url": "http://localhost:1/v1", "model": "m", field: value}
    with pytest.raises(FigmentError, match=said) as error:
        validate({"task": {"class_names": ["a", "b"]}, "prompts": settings}, "it")
    assert f"prompts.{field}: " in str(error.value)
    assert KEY not in str(error.value) and "pass-1234" not in str(error.value)


# ---- the cache -------------------------------------------------------------------------------------------------------


def test_answers_are_kept_by_request(server, tmp_path):
    first = chat(server, cache=tmp_path)(TASK, 10, rng())
    assert len(server.asked) == 4
    assert chat(server, cache=tmp_path)(TASK, 10, rng()) == first and len(server.asked) == 4
    chat(server, cache=tmp_path)(TASK, 15, rng())
    assert len(server.asked) == 6  # more of the same asks for the rest
    chat(server, cache=tmp_path, temperature=0.1)(TASK, 10, rng())
    assert len(server.asked) == 10
    kept = json.loads(next(tmp_path.glob("*.json")).read_text())
    assert kept["request"]["model"] == "tiny" and captions_in(kept["answer"])


@pytest.mark.slow
def test_a_killed_run_goes_on_where_it_was(server, tmp_path):
    gate = threading.Event()
    server.stumbles = [*[lambda _: False] * 3, *[lambda _: gate.wait(30) and False] * 40]
    code = f"""
import numpy as np
from pathlib import Path
from figment.prompts.chat import Chat
from figment.task import Task
task = Task.model_validate_json({TASK.model_dump_json()!r})
Chat({server.url!r}, "tiny", per_request=5, parallel=2, cache=Path({str(tmp_path)!r}))(task, 20, np.random.default_rng(0))
"""
    child = subprocess.Popen([sys.executable, "-c", code], env=dict(os.environ))
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and (len(list(tmp_path.glob("*.json"))) < 3 or len(server.asked) < 5):
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    gate.set()
    assert len(list(tmp_path.glob("*.json"))) == 3
    asked = len(server.asked)
    prompts = chat(server, cache=tmp_path)(TASK, 20, rng())
    assert len(server.asked) - asked == 8 - 3
    assert prompts == chat(server)(TASK, 20, rng())  # and what was interrupted left no trace


# ---- what is asked ---------------------------------------------------------------------------------------------------


def test_the_instruction_says_what_the_task_knows():
    task = load_task("fashion")
    text = instruction(task, task.class_names.index("ankle boot"), 0, 7, rng())
    assert text.startswith("Write 7 captions of 7 different photographs of an ankle boot (also called boot).")
    assert '"a photo of an ankle boot."' in text and "sandal" in text and "JSON array" in text
    assert any(word in text for word in [*task.contexts, "striped", "slim"])
    focus = {instruction(task, 0, i, 7, rng()).split("vary above all")[1].split(".")[0] for i in range(8)}
    assert len(focus) == 8


def test_thousands_of_classes_make_no_endless_request():
    task = Task(class_names=[f"class {i}" for i in range(5000)], attributes={"a": [f"w{i}" for i in range(5000)]})
    assert len(instruction(task, 3, 0, 20, rng())) < 2500


# ---- the whole path --------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_whole_run_asks_once_and_keeps_no_key(server, clip, photos, tmp_path, monkeypatch):
    monkeypatch.setenv("MY_KEY", KEY)
    data = {
        "task": {"class_names": ["red thing", "green thing", "blue thing"], "real": {"test": str(photos / "test")}},
        "prompts": {
            "kind": "chat",
            "base_url": server.url,
            "model": "tiny",
            "per_class": 4,
            "per_request": 2,
            "api_key_env": "MY_KEY",
        },
        "generate": {"kind": "procedural", "images_per_class": 8},
        "filters": [{"kind": "blank"}],
        "train": {"encoder": str(clip), "epochs": 1, "seeds": 1},
    }
    recipe = validate(data, "test")
    outcome = run_recipe(recipe, tmp_path / "run")
    assert "gain/synthetic" in outcome.results and len(server.asked) == 6
    prompts = shards.prompts_in(tmp_path / "run" / "prompts")
    assert len(prompts) == 12 and {p.source for p in prompts} == {"chat tiny"}
    # Where the server is and how it is asked is no part of what was written: it may be gone by now.
    moved = recipe.changed({"prompts.base_url": "http://127.0.0.1:1/v1", "prompts.parallel": 1})
    assert run_recipe(moved, tmp_path / "run").results == outcome.results and len(server.asked) == 6
    # Another run of the same study, as an arm is one, buys nothing again.
    arm = recipe.changed({"generate.images_per_class": 4})
    run_recipe(arm, tmp_path / "arm", root=tmp_path / "run")
    assert len(server.asked) == 6
    for path in [p for p in tmp_path.rglob("*") if p.is_file()]:
        assert KEY.encode() not in path.read_bytes()
    with pytest.raises(FigmentError, match="prompts.temperature was 0.8 and is now 0.1"):
        run_recipe(recipe.changed({"prompts.temperature": 0.1}), tmp_path / "run")


def test_a_dry_run_asks_nobody(server, clip, tmp_path):
    from figment.forecast import forecast

    data = {
        "task": {"class_names": ["red thing", "green thing"]},
        "prompts": {"kind": "chat", "base_url": server.url, "model": "tiny", "per_class": 4},
        "generate": {"kind": "procedural", "images_per_class": 8},
    }
    made = forecast(validate(data, "test"), tmp_path / "run")
    assert (made.count("prompts"), made.count("images")) == (8, 16) and not server.asked
