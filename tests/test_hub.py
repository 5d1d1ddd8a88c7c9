"""Publishing over real HTTP, by the real client libraries, to the Hub that the tests serve."""

import hashlib
import json
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.command import Ended, parquet, run_here
from tests.hub_server import TOKEN, Fault, HubServer, client_environment, new_repository, serve_hub

Push = Callable[..., Ended]
ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder from the embedded bank, to be copied."""
    folder = tmp_path_factory.mktemp("built") / "r1k"
    words = ["--source", "embedded", "--teacher", "embedded", "--limit", "32", "--tokenizer", "none", "--output", str(folder)]
    assert run_here(*words).status == 0
    return folder


@pytest.fixture
def folder(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "r1k"))


class Pusher:
    """`r1k-build` in a process of its own, which imports the client libraries once, with the tests' Hub as theirs."""

    def __init__(self, environment: dict[str, str]) -> None:
        command = [sys.executable, "-c", PUSHER]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, env=environment, text=True, cwd=ROOT)

    def run(self, *words: str, token: str | None = TOKEN) -> Ended:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([words, token]) + "\n")
        self._process.stdin.flush()
        ended = Ended(*json.loads(self._process.stdout.readline()))
        assert TOKEN not in ended.out + ended.err
        return ended

    def close(self) -> None:
        self._process.communicate()


PUSHER = """
import contextlib, io, json, os, sys
import yaml
yaml.SafeLoader = yaml.CSafeLoader  # libyaml's: the libraries read the card's metadata sixteen times in a push
from r1k_builder import cli
for line in sys.stdin:
    words, token = json.loads(line)
    os.environ.pop("HF_TOKEN", None)
    if token is not None:
        os.environ["HF_TOKEN"] = token
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = cli.main(words)
    print(json.dumps([status, out.getvalue(), err.getvalue()]), flush=True)
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[HubServer, Pusher]]:
    with serve_hub() as running:
        pusher = Pusher(client_environment(running, tmp_path_factory.mktemp("home")))
        yield running, pusher
        pusher.close()


@pytest.fixture
def hub(server: tuple[HubServer, Pusher]) -> HubServer:
    server[0].reset()
    return server[0]


@pytest.fixture
def push(server: tuple[HubServer, Pusher], folder: Path) -> Callable[..., Ended]:
    """`r1k-build push FOLDER me/r1k`."""

    def run(*options: str, token: str | None = TOKEN) -> Ended:
        return server[1].run("push", str(folder), "me/r1k", *options, token=token)

    return run


def published(hub: HubServer, revision: str = "main") -> dict[str, bytes]:
    """The files that the Hub has, without its own."""
    files = hub.repositories["me/r1k"].files_at(revision)
    assert files is not None
    return {name: content for name, content in files.items() if name != ".gitattributes"}


def in_folder(folder: Path) -> dict[str, bytes]:
    figures = {f"figures/{path.name}": path.read_bytes() for path in (folder / "figures").iterdir()}
    return parquet(folder) | figures


def assert_sent_once(hub: HubServer, folder: Path) -> None:
    """Each file came in whole once; some configurations of a small build have the same bytes."""
    assert Counter(hub.uploads) == Counter(hashlib.sha256(content).hexdigest() for content in in_folder(folder).values())


def sentence(ended: Ended) -> str:
    """What a refused command has said, without the Hub library's own lines."""
    return ended.err[ended.err.index("r1k-build: ") :]


def test_a_push_is_one_commit_and_a_second_one_none(hub: HubServer, folder: Path, push: Push) -> None:
    first = push()
    assert first.status == 0, first
    (commit,) = hub.repositories["me/r1k"].pushed
    found = published(hub)
    card = found.pop("README.md").decode()
    assert found == in_folder(folder)
    assert 'load_dataset("me/r1k", split="train")' in card
    assert '"hf://datasets/me/r1k/reverse/train-00000' in card
    assert first.out.endswith(
        f'{hub.url}/datasets/me/r1k\n  loaded back: every digest is the same\n  load it:  load_dataset("me/r1k")\n'
    )
    assert not any(".build" in name for name in commit.files)
    second = push()
    assert second.status == 0, second
    assert "no commit was made" in second.out
    assert len(hub.repositories["me/r1k"].pushed) == 1
    assert_sent_once(hub, folder)


def test_what_a_reader_gets_from_there_is_what_was_built(hub: HubServer, folder: Path, push: Push) -> None:
    assert push("--tag", "v1").status == 0
    code = """
import json
from datasets import load_dataset
rows = load_dataset("me/r1k", "preference", split="train", revision="v1")
streamed = load_dataset("me/r1k", split="train", streaming=True)
print(json.dumps([rows.num_rows, rows.column_names, next(iter(streamed))["id"], len(list(streamed))]))
"""
    environment = client_environment(hub, folder.parent / "reader")
    ended = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    count, columns, first, streamed = json.loads(ended.stdout)
    assert (count, streamed) == (64, 32)
    assert columns == ["id", "pair_id", "direction", "prompt", "chosen", "rejected"]
    assert first.endswith("-reverse")


def test_faults_on_the_way_are_outlasted_and_nothing_is_sent_twice(hub: HubServer, folder: Path, push: Push) -> None:
    hub.faults = [
        Fault("POST /api/repos/create", 503),
        Fault("/preupload/", 429),
        Fault("PUT /lfs/", None, after=3),
        Fault("PUT /lfs/", 503, after=5),
        Fault("/commit/", 500),
        Fault("/tree/", 502),
    ]
    ended = push()
    assert ended.status == 0, ended
    assert [fault.times for fault in hub.faults] == [0] * 6
    assert len(hub.repositories["me/r1k"].pushed) == 1
    assert {name: content for name, content in published(hub).items() if name != "README.md"} == in_folder(folder)
    assert_sent_once(hub, folder)


def test_a_commit_whose_answer_is_lost_is_not_made_again(hub: HubServer, folder: Path, push: Push) -> None:
    hub.faults = [Fault("/commit/", None, done=True)]
    ended = push()
    assert ended.status == 0, ended
    assert len(hub.repositories["me/r1k"].pushed) == 1


def test_a_push_that_was_killed_goes_on_where_it_was(hub: HubServer, folder: Path, push: Push) -> None:
    hub.faults = [Fault("/commit/", 403)]
    assert push().status == 4
    uploaded = set(hub.uploads)
    assert uploaded
    assert push().status == 0
    assert_sent_once(hub, folder)


def test_a_rebuild_replaces_its_files_and_leaves_others(hub: HubServer, folder: Path, push: Push) -> None:
    assert push().status == 0
    repository = hub.repositories["me/r1k"]
    card = repository.files["README.md"].decode()
    edited = card.replace("<!-- r1k:end summary -->", "<!-- r1k:end summary -->\n\nA note made on the Hub.")
    repository.commit("main", "by hand", repository.files | {"LICENSE": b"mine", "README.md": edited.encode()})
    assert run_here("export", str(folder), "--limit", "31").status == 0
    assert push().status == 0
    found = published(hub)
    assert found.pop("LICENSE") == b"mine"
    assert "A note made on the Hub." in found.pop("README.md").decode()
    assert found == in_folder(folder), "the files of the first push are gone"
    assert len(repository.pushed) == 3


def test_branch_tag_private_and_pull_request(hub: HubServer, folder: Path, push: Push) -> None:
    branch = push("--private", "--revision", "try", "--tag", "v1")
    assert branch.status == 0, branch
    repository = hub.repositories["me/r1k"]
    assert repository.private
    assert repository.refs["try"] == repository.refs["refs/tags/v1"] != repository.refs["main"]
    assert 'load_dataset("me/r1k", revision="v1")' in branch.out
    again = push("--revision", "try")
    assert again.status == 0, again
    assert "no commit was made" in again.out
    request = push("--create-pr")
    assert request.status == 0, request
    assert f"{hub.url}/datasets/me/r1k/discussions/1" in request.out
    assert published(hub, "refs/pr/1").keys() == published(hub, "try").keys()
    assert published(hub) == {}
    taken = push("--tag", "v1")
    assert taken.status == 2
    assert "has a tag v1 already" in sentence(taken)


def test_a_dry_run_sends_nothing(hub: HubServer, folder: Path, push: Push) -> None:
    ended = push("--dry-run", token=None)
    assert ended.status == 0, ended
    assert "a new repository; nothing was sent" in ended.out
    assert ended.out.count("  + ") == 1 + len(in_folder(folder))
    assert all(request.startswith(("GET", "HEAD")) for request in hub.requests)
    assert hub.repositories == {}


def test_every_refusal_is_one_sentence(hub: HubServer, folder: Path, push: Push) -> None:
    def refused(status: int, words: str, *options: str, token: str | None = TOKEN) -> None:
        ended = push(*options, token=token)
        assert ended.status == status, ended
        said = sentence(ended)
        assert words in said
        assert said.count("\n") == 1, said

    refused(2, "no token for the Hub: type  hf auth login", token=None)
    refused(4, "the Hub does not know this token (401)", token="hf_" + "wrong" * 7)
    hub.may_write = False
    refused(4, "the token may not write to me/r1k (403)")
    hub.may_write = True
    hub.faults = [Fault("POST /api/repos/create", 404)]
    refused(2, "the Hub has no place for me/r1k (404): check OWNER")
    hub.faults = [Fault("/commit/", 409)]
    refused(2, "is in conflict with what is there (409)")
    hub.repositories["me/r1k"] = new_repository(README__md=b"# Another dataset", data__csv=b"1,2")
    refused(2, "me/r1k holds other content (README.md, data.csv): choose another name")
    refused(2, "me/r1k holds other content", "--revision", "try")
    hub.repositories["me/r1k"] = new_repository()
    refused(2, "me/r1k is there and public", "--private")
    refused(2, "drop --revision and --tag", "--create-pr", "--tag", "v1")
    assert not hub.uploads or not hub.repositories["me/r1k"].pushed


def test_a_repository_that_the_hubs_form_made_is_taken(hub: HubServer, folder: Path, push: Push) -> None:
    hub.repositories["me/r1k"] = new_repository(README__md=b"---\nlicense: mit\n---\n")
    assert push().status == 0
    assert len(hub.repositories["me/r1k"].pushed) == 1


def test_a_hub_that_is_away_or_stays_ill_is_named(hub: HubServer, folder: Path, push: Push) -> None:
    hub.faults = [Fault("/commit/", 503, times=99)]
    ill = push()
    assert ill.status == 7
    assert "the Hub still answers 503 after" in sentence(ill)
    hub.faults.clear()
    environment = client_environment(hub, folder.parent / "home", TOKEN) | {"HF_ENDPOINT": "http://127.0.0.1:9"}
    command = [sys.executable, "-m", "r1k_builder", "push", str(folder), "me/r1k"]
    away = subprocess.run(command, env=environment | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False)
    assert away.returncode == 7, away
    assert "the connection to http://127.0.0.1:9 failed" in away.stderr.splitlines()[-1]


# -- what is checked before anything is sent


def here(folder: Path, *options: str) -> Ended:
    """A push that does not come to the Hub; the tests' own environment is offline."""
    return run_here("push", str(folder), "me/r1k", *options)


def test_a_client_that_is_to_stay_offline_says_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    ended = here(folder)
    assert ended.status == 2, ended
    assert "HF_HUB_OFFLINE is set" in sentence(ended)


def test_a_file_that_is_not_what_was_built_stops_the_push(folder: Path) -> None:
    (path,) = (folder / "probe").iterdir()
    content = path.read_bytes()
    path.write_bytes(content[:-1] + b"\0")
    changed = here(folder)
    assert changed.status == 6
    assert f"{path} is not what the manifest says: type  r1k-build export" in changed.err
    path.unlink()
    assert f"{path} is missing" in here(folder).err


def test_a_folder_without_a_finished_build_is_refused(folder: Path, tmp_path: Path) -> None:
    assert "holds no build" in here(tmp_path / "nothing").err
    manifest = folder / ".build" / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"state": "building"}))
    unfinished = here(folder)
    assert unfinished.status == 2
    assert "holds no finished dataset: type  r1k-build export" in unfinished.err
    assert here(folder, "--allow", "nonsense").status == 2
    assert "is no name of a repository" in run_here("push", str(folder), "r1k").err


def test_a_card_that_breaks_the_dataset_is_found_before_it_is_pushed(hub: HubServer, folder: Path, push: Push) -> None:
    card = folder / "README.md"
    card.write_text(card.read_text().replace("# r1k:end metadata", "# r1k:end metadata\nlanguage: [en"))
    ended = push()
    assert ended.status == 6, ended
    assert "mend what you have written into README.md" in sentence(ended)
    assert not any(request.startswith(("POST", "PUT")) for request in hub.requests)
