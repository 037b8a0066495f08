"""The wheel in a bare environment: somebody installs it, and tries it from another folder."""

import os
import shutil
import stat
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.harness import readme_tour
from tests.harness.herald_dev import running_dev
from tests.harness.processes import free_address

ROOT = Path(__file__).parents[2]
NOBODY = 65_534
_PACKAGES = ("campaign_service", "chat_store", "herald_rpc", "segment_service")


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT,
        check=True,
        capture_output=True,
        timeout=100,
    )
    (built,) = folder.iterdir()
    return built


@pytest.fixture
def bare_bin() -> Iterator[Path]:
    """The folder of programs of an empty environment, which every user may read."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        venv = [sys.executable, "-m", "venv", "--without-pip", str(folder / "venv")]
        subprocess.run(venv, check=True, timeout=100)
        yield folder / "venv" / "bin"


def test_the_wheel_has_every_file_of_the_packages_and_brings_the_command(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (entry_points,) = (name for name in names if name.endswith("entry_points.txt"))
        scripts = archive.read(entry_points).decode()

    files = [
        str(file.relative_to(ROOT))
        for package in _PACKAGES
        for file in (ROOT / package).rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    ]
    stubs = [
        f"herald/{file.relative_to(ROOT / 'protos/python/herald')}"
        for file in (ROOT / "protos/python/herald").rglob("*_pb2*.py")
    ]
    assert len(stubs) > 10
    assert {*files, *stubs} <= names
    assert "herald = campaign_service.command_line:run" in scripts


def as_nobody(folder: Path) -> list[str]:
    """The words in front of a command that run it as a user to whom this folder alone belongs."""
    os.chown(folder, NOBODY, NOBODY)
    setpriv = shutil.which("setpriv")
    assert setpriv, "root needs setpriv, of util-linux, to run it as somebody else"
    return [setpriv, f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]


def anybody_runs(program: str) -> bool:
    """Whether a program is in no folder of one user's alone, as root's home is."""
    folders = Path(program).resolve().parents
    return all(folder.stat().st_mode & stat.S_IXOTH for folder in folders)


@pytest.mark.nightly
@pytest.mark.timeout(900)
def test_the_tour_and_the_commands_work_for_an_unprivileged_user_with_a_read_only_home(
    wheel: Path, bare_bin: Path
) -> None:
    pip = [sys.executable, "-m", "pip", "--python", str(bare_bin / "python")]
    subprocess.run([*pip, "install", "-q", str(wheel)], check=True, timeout=500)
    work = bare_bin.parent / "work"
    work.mkdir()
    # modules of any name in that folder are not the command's
    for name in ("segment_service", "grpc"):
        (work / f"{name}.py").write_text("raise SystemExit('not this one')")
    before = as_nobody(work) if os.getuid() == 0 and anybody_runs(sys.executable) else []
    segment, campaign = free_address(), free_address()
    settings = {
        "HERALD_SEGMENT_LISTEN": segment,
        "HERALD_CAMPAIGN_LISTEN": campaign,
        # nobody can write to it, root included
        "HOME": "/proc",
    }

    def started(*words: str) -> subprocess.Popen[str]:
        outer = {name: text for name, text in os.environ.items() if not name.startswith("HERALD_")}
        return subprocess.Popen(
            [*before, str(bare_bin / "herald"), *words],
            cwd=work,
            env={**outer, **settings, "HERALD_SEGMENT_TARGET": segment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def output(*words: str) -> str:
        with started(*words) as command:
            text, _ = command.communicate(timeout=60)
        assert command.returncode == 0, text
        return text

    with running_dev(work, settings, bare_bin / "herald", *before) as process:
        readme_tour.walk(segment, campaign)
        (work / "users.jsonl").write_text('{"type": "user", "data": {"id": "anna"}}\n')
        output("migrate", "--check")
        assert "1 user" in output("import", "users.jsonl")
        assert "completed" in output("watch", "hello", "--target", campaign)
        output("verify", "hello")
        with started("send") as senders:
            assert senders.stdout
            assert any("sending" in line for line in senders.stdout)
            senders.terminate()
            assert senders.wait(60) == 0
        process.terminate()
        assert process.wait(60) == 0

    assert (work / "data" / "herald.db").exists()
    output("migrate")
