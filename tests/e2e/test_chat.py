"""`emqx-im chat` and `emqx-im token` as commands, between pipes."""

import asyncio
import os
import subprocess
from asyncio.subprocess import PIPE
from collections.abc import Callable
from pathlib import Path

import jwt

from tests.e2e.stack import EMQX_IM, Service, Stack
from tests.e2e.waiting import until

User = Callable[[], int]


def run(*arguments: str, lines: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [EMQX_IM, *arguments],
        input=lines,
        capture_output=True,
        text=True,
        timeout=60,
        env={name: value for name, value in os.environ.items() if not name.startswith("IM_")} | environment,
    )


def chat(stack: Stack, uid: int, lines: str = "", *arguments: str) -> subprocess.CompletedProcess[str]:
    return run("chat", "--uid", str(uid), "--data-dir", str(stack.data_dir), *arguments, lines=lines)


def test_lines_are_sent_and_shown_once(shared_stack: Stack, user: User) -> None:
    ann, bob = user(), user()
    sent = chat(shared_stack, ann, f"{bob} hello\n/to {bob}\nhow are you?\n")
    assert sent.returncode == 0, sent.stderr
    assert sent.stdout == f"✓ {bob} hello\n✓ {bob} how are you?\n"
    shown = chat(shared_stack, bob)
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout == f"{ann}: hello\n{ann}: how are you?\n"
    assert chat(shared_stack, bob).stdout == ""
    assert chat(shared_stack, ann).stdout == ""


async def test_two_people_talk(shared_stack: Stack, user: User) -> None:
    ann, bob = user(), user()
    arguments = ("chat", "--uid", str(bob), "--to", str(ann), "--data-dir", str(shared_stack.data_dir))
    talker = await asyncio.create_subprocess_exec(EMQX_IM, *arguments, stdin=PIPE, stdout=PIPE)
    assert talker.stdin is not None
    assert talker.stdout is not None
    talker.stdin.write(b"ready\n")
    assert await asyncio.wait_for(talker.stdout.readline(), 30) == f"✓ {ann} ready\n".encode()
    sent = await asyncio.to_thread(chat, shared_stack, ann, f"{bob} live\n")
    assert f"{bob}: ready" in sent.stdout
    assert await asyncio.wait_for(talker.stdout.readline(), 30) == f"{ann}: live\n".encode()
    talker.stdin.close()
    assert await asyncio.wait_for(talker.wait(), 30) == 0


async def test_one_user_chats_on_two_machines(
    shared_stack: Stack, service: Service, user: User, tmp_path: Path
) -> None:
    """Each machine is a separate device: neither disconnects the other."""
    ann, bob = user(), user()
    addresses = ("--mqtt", f"127.0.0.1:{shared_stack.mqtt_port}", "--url", shared_stack.url)
    login = ("--uid", str(ann), "--token", shared_stack.token(ann))
    talkers = [
        await asyncio.create_subprocess_exec(
            EMQX_IM, "chat", *login, *addresses, "--data-dir", str(tmp_path / machine), stdin=PIPE, stdout=PIPE
        )
        for machine in ("home", "office")
    ]

    async def both_online() -> bool | None:
        presence = await service.admin("presence", uid=ann)
        return len(presence["users"][str(ann)]["devices"]) == 2 or None

    await until(both_online)
    await asyncio.to_thread(chat, shared_stack, bob, f"{ann} to both\n")
    for talker in talkers:
        assert talker.stdin is not None
        assert talker.stdout is not None
        assert await asyncio.wait_for(talker.stdout.readline(), 30) == f"{bob}: to both\n".encode()
    assert await both_online()
    for talker in talkers:
        assert talker.stdin is not None
        talker.stdin.close()
        assert await asyncio.wait_for(talker.wait(), 30) == 0


def test_what_is_refused_is_marked(shared_stack: Stack, user: User) -> None:
    long = "x" * 20_000
    sent = chat(shared_stack, user(), f"{user()} {long}\nnobody hello\n")
    assert sent.returncode == 1
    refused = sent.stdout.splitlines()
    assert len(refused) == 2
    assert all(line.startswith("✗ ") for line in refused)


def test_commands_are_shown_and_never_sent(shared_stack: Stack, user: User) -> None:
    ann, bob = user(), user()
    asked = chat(shared_stack, ann, f"/help\n/to {bob}\n/help\n")
    assert asked.returncode == 0, asked.stdout
    assert asked.stdout.count("/to 1002") == 2
    unknown = chat(shared_stack, ann, f"/quit\n/to {bob}\n/too late\n/\n/to\n")
    assert unknown.returncode == 1
    assert [line for line in unknown.stdout.splitlines() if line.startswith("✗")] == [
        "✗ /quit (unknown command)",
        "✗ /too late (unknown command)",
        "✗ / (unknown command)",
        "✗ /to (write `1002 hello`, or `/to 1002` (`/to group/7`) and then your lines)",
    ]
    assert unknown.stdout.count("/help") == 3
    assert chat(shared_stack, bob).stdout == ""


def test_two_slashes_send_one(shared_stack: Stack, user: User) -> None:
    ann, bob = user(), user()
    assert chat(shared_stack, ann, f"/to {bob}\n//etc/hosts\n").stdout == f"✓ {bob} /etc/hosts\n"
    assert chat(shared_stack, bob).stdout == f"{ann}: /etc/hosts\n"


def test_escape_sequences_of_others_do_nothing(shared_stack: Stack, user: User) -> None:
    ann, bob = user(), user()
    chat(shared_stack, ann, f"{bob} a\x1b[2Jb\n")
    assert chat(shared_stack, bob).stdout == f"{ann}: a�[2Jb\n"


def test_without_a_broker_the_message_waits_for_the_next_time(shared_stack: Stack, user: User) -> None:
    ann, bob = user(), user()
    nowhere = ("--mqtt", "127.0.0.1:1", "--url", "http://127.0.0.1:1", "--wait", "1")
    kept = chat(shared_stack, ann, f"{bob} patience\n", *nowhere)
    assert kept.returncode == 1
    assert "kept" in kept.stderr
    assert "cannot be reached" in kept.stderr
    assert chat(shared_stack, ann).stdout == f"✓ {bob} (sent earlier)\n"
    assert chat(shared_stack, bob).stdout == f"{ann}: patience\n"


def test_mistakes_are_one_line(tmp_path: Path, shared_stack: Stack) -> None:
    nothing = ("--data-dir", str(tmp_path))
    for arguments, word in (
        (("chat", "--uid", "1001", *nothing), "no emqx-im dev runs"),
        (("chat", "--uid", "abc"), "--uid"),
        (("chat", "--uid", "1001", "--to", "x"), "--to"),
        (("chat", "--uid", "1001", "--mqtt", "http://x", "--url", "http://x"), "--mqtt"),
        (("token", "--uid", "01"), "--uid"),
        (("token", "--uid", str(2**53)), "--uid"),
        (("token", "--uid", "1001", *nothing), "IM_JWT_SECRET"),
        (("token",), "--uid"),
    ):
        failed = run(*arguments)
        assert failed.returncode != 0
        assert failed.stdout == ""
        assert len(failed.stderr.splitlines()) == 1, failed.stderr
        assert word in failed.stderr
    data_dir = ("--data-dir", str(shared_stack.data_dir))
    refused = run("chat", "--uid", "1001", "--token", "bad", *data_dir)
    assert refused.returncode == 1
    assert refused.stderr == "emqx-im: --token: this is not a JWT\n"


def test_a_refused_token_is_told_and_tried_until_the_time_is_over(shared_stack: Stack, user: User) -> None:
    ann, bob = user(), user()
    wrong = shared_stack.token(ann)[:-2]
    refused = chat(shared_stack, ann, f"{bob} hi\n", "--token", wrong, "--wait", "2")
    assert refused.returncode == 1
    assert f"the broker refuses user {ann}" in refused.stderr
    assert "trying again" in refused.stderr
    strangers = chat(shared_stack, ann, f"{bob} hi\n", "--token", shared_stack.token(bob))
    assert strangers.returncode == 1
    assert f"not that of user {ann}" in strangers.stderr


async def test_a_token_opens_broker_and_pull(shared_stack: Stack, service: Service, user: User) -> None:
    uid = str(user())
    made = run("token", "--uid", uid, "--data-dir", str(shared_stack.data_dir))
    assert made.returncode == 0, made.stderr
    assert await service.pull_status(made.stdout.strip()) == 200
    chatted = chat(shared_stack, int(uid), f"{user()} hi\n", "--token", made.stdout.strip())
    assert chatted.returncode == 0, chatted.stderr


def test_a_token_says_who_and_until_when() -> None:
    secret = "a secret of thirty-two characters or more"
    for arguments, subject in ((("--uid", "1001"), "1001"), (("--username", "ops"), "ops")):
        made = run("token", *arguments, "--ttl", "60", IM_JWT_SECRET=secret)
        claims = jwt.decode(made.stdout.strip(), secret, algorithms=["HS256"])
        assert claims["sub"] == subject
        assert claims["exp"] - claims["iat"] == 60


def unread(stack: Stack, uid: int, machine: Path, *lines: str) -> list[str]:
    """Returns what a user's device on this machine has not read, after it did what these lines say."""
    addresses = ("--mqtt", f"127.0.0.1:{stack.mqtt_port}", "--url", stack.url, "--token", stack.token(uid))
    arguments = ("chat", "--uid", str(uid), *addresses, "--data-dir", str(machine))
    ended = run(*arguments, lines="".join(f"{line}\n" for line in [*lines, "/unread"]))
    assert ended.returncode == 0, ended.stdout + ended.stderr
    shown = ended.stdout.splitlines()
    return [line for line in shown if line.partition(": ")[2].isdecimal()]


def test_all_devices_of_a_user_have_the_same_unread(shared_stack: Stack, user: User, tmp_path: Path) -> None:
    """One that was there all the time, one that was away, and one that is new."""
    ann, bob, cy = user(), user(), user()
    old, away, new = (tmp_path / name for name in ("old", "away", "new"))
    chat(shared_stack, bob, f"/to {ann}\none\ntwo\nthree\n")
    assert unread(shared_stack, ann, away) == [f"{bob}: 3"]
    assert unread(shared_stack, ann, old, "/unread", f"/read {bob}") == [f"{bob}: 3"], "and none after it"
    assert f"{ann} has read what you wrote" in chat(shared_stack, bob, f"/to {ann}\nfour\n").stdout
    chat(shared_stack, cy, f"/to {ann}\nfive\nsix\n")
    left = sorted([f"{bob}: 1", f"{cy}: 2"])
    for machine in (old, away, new):
        assert unread(shared_stack, ann, machine) == left


def test_blocks_and_settings_are_for_all_devices(shared_stack: Stack, user: User, tmp_path: Path) -> None:
    ann, bob = user(), user()
    asked = chat(shared_stack, ann, f'/block {bob}\n/set pins ["single/7"]\n/settings\n')
    assert asked.stdout == f'✓ /block {bob}\n✓ /set pins ["single/7"]\npins: ["single/7"]\n'
    refused = chat(shared_stack, bob, f"{ann} hello\n")
    assert refused.returncode == 1
    assert "blocked" in refused.stdout
    wrong = chat(shared_stack, ann, f"/unblock {bob}\n/block\n/set pins\n/read\n")
    assert wrong.returncode == 1
    assert [line[0] for line in wrong.stdout.splitlines()] == ["✓", "✗", "✗", "✗"]
    assert chat(shared_stack, bob, f"{ann} hello\n").returncode == 0
