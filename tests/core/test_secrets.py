"""Secrets are known by name and by form; code is not lost for looking like one."""

from __future__ import annotations

import pickle
import random
import string
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import lightning_debugkit
from lightning_debugkit.core.secrets import (
    scrub_arguments,
    scrub_url,
    secret_name,
    secret_text,
    secret_values,
    without_tokens,
)

CHANCE = random.Random(0)


def some(count: int, alphabet: str = string.ascii_letters + string.digits) -> str:
    """A body that no issuer gave out; made here, so that this very file holds no token."""
    return "".join(CHANCE.choices(alphabet, k=count))


UPPER = string.ascii_uppercase + "234567"
HEX = "0123456789abcdef"
TOKENS = {
    "GitHub": "ghp_" + some(36),
    "GitHub, server": "ghs_" + some(36),
    "GitHub, fine-grained": "github_pat_" + some(22) + "_" + some(59),
    "GitLab": "glpat-" + some(20),
    "Hugging Face": "hf_" + some(34, string.ascii_letters),
    "OpenAI": "sk-" + some(48),
    "OpenAI, project": "sk-proj-" + some(60),
    "Anthropic": "sk-ant-" + "api03-" + some(80),
    "AWS": "AKIA" + some(16, UPPER),
    "AWS, secret": "aws_secret_access_key = " + some(40),
    "AWS, secret in JSON": '"SECRET_ACCESS_KEY": "' + some(40) + '"',
    "Google": "AIza" + some(35),
    "Slack": "xoxb-" + some(12, string.digits) + "-" + some(24),
    "PyPI": "pypi-AgEI" + some(60),
    "npm": "npm_" + some(36),
    "wandb, variable": "WANDB_API_KEY=" + some(40, HEX),
    "wandb, call": 'wandb.login(key="' + some(40, HEX) + '")',
    "wandb, environment": 'os.environ["WANDB_API_KEY"] = "' + some(40, HEX) + '"',
    "wandb, netrc": "machine api.wandb.ai\n  login user\n  password " + some(40, HEX),
    "private key": "-----BEGIN RSA PRIVATE KEY-----\n" + some(64) + "\n-----END RSA PRIVATE KEY-----",
    "private key, locked": "-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\n" + some(64),
    "private key, JSON": '"-----BEGIN PRIVATE KEY-----\\n' + some(64) + '\\n"',
    "by its name": "AWS_SECRET_ACCESS_KEY = '" + some(30) + "7a'",
    "by its name, annotated": 'db_password: str = "' + some(14) + '7a"',
    "by its name, of a call": "connect(host, apiKey='" + some(16) + "7a')",
    "by its name, of an entry": '{"auth-token": "' + some(16) + '7a", "lr": 0.1}',
    "a password in a URL": "postgres://me:" + some(14) + "7a@db.example.org/x",
    "private key, SSH": "-----BEGIN OPENSSH PRIVATE KEY-----\n" + some(70),
}


@pytest.mark.parametrize("name", TOKENS)
@pytest.mark.parametrize("around", ["{}", "a = 1\ntoken: '{}'\n", 'call("{}")', "https://{}@host/x", "{}\r\n"])
def test_a_token_is_found_in_its_line_and_never_told(name: str, around: str) -> None:
    text = around.format(TOKENS[name])
    found = secret_text(text.encode())
    assert found is not None
    assert TOKENS[name][-10:] not in found
    assert found.endswith(f"in line {2 if around.startswith('a = 1') else 1}")


@pytest.mark.parametrize("name", TOKENS)
@pytest.mark.parametrize("protocol", [2, pickle.HIGHEST_PROTOCOL])
def test_a_token_is_found_in_a_pickle_whatever_stands_beside_it(name: str, protocol: int) -> None:
    """Its length stands before it, which may be the code of a letter, and so may the next instruction."""
    for pad in ("", "   ", "~" * 20, "-" * 60):
        data = pickle.dumps({"a": [TOKENS[name] + pad, 1], "b": TOKENS[name]}, protocol)
        found = secret_text(data, is_pickled=True)
        assert found is not None
        assert " in line" not in found


@pytest.mark.parametrize("name", TOKENS)
def test_a_text_keeps_all_but_the_token(name: str) -> None:
    told = without_tokens({"message": f"before\n{TOKENS[name]}\nafter", "numbers": (1, None, 0.5), "list": ["plain"]})
    assert secret_text(told["message"].encode()) is None
    body = TOKENS[name].strip().removesuffix("\n-----END RSA PRIVATE KEY-----")
    assert body[-20:] not in told["message"]
    assert told["message"].startswith("before\n")
    assert told["message"].endswith("after")
    assert (told["numbers"], told["list"]) == ((1, None, 0.5), ["plain"])


def test_values_are_secrets_by_their_names_wherever_they_are_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_SERVICE_TOKEN", "of-no-known-form")
    monkeypatch.setenv("PWD", "/home/somebody/project")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/home/somebody/key.json")
    options = ["--db-password", "hunter2hunter2", "--api_key=secondsecond", "--use-auth", "--learning-rate", "0.1"]
    monkeypatch.setattr(sys, "argv", ["train.py", *options])
    found = secret_values({"lr": 0.1, "name": "a-name-that-is-long", "pin": {"api_key": "third-of-these"}})
    values = {"of-no-known-form", "hunter2hunter2", "secondsecond", "third-of-these"}
    assert values <= set(found)
    assert not {"/home/somebody/project", "/home/somebody/key.json", "--learning-rate", "a-name-that-is-long"} & {
        *found
    }
    assert without_tokens("401 for third-of-these at /home/somebody/project", found) == (
        "401 for *** at /home/somebody/project"
    )


@pytest.mark.parametrize(
    "text",
    [
        "ghp_" + "x" * 36,
        "hf_" + "X" * 34,
        "AKIAIOSFODNN7EXAMPLE",
        "aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        "commit " + some(40, HEX),
        "WANDB_API_KEY=" + "0" * 40,
        "wandb run " + some(40, HEX),
        '<div class="sk-estimator sk-toggleable__label-arrow-sk-hidden-visually">',
        "task-" + some(48).lower(),
        "if line == '-----BEGIN RSA PRIVATE KEY-----':",
        "-----BEGIN PUBLIC KEY-----\n" + some(64),
        "-----BEGIN CERTIFICATE-----\n" + some(64),
        "hf_hub_download(repo_id, filename)",
        "sha512-" + some(86) + "==",
        'os.environ["HF_TOKEN"]',
        "api_key: ${oc.env:API_KEY}",
        "eos_token = '<|endoftext|>7'",
        "token = 'a-word-without-digits'",
        'password = "********1234"',
        "private_key = '/etc/keys/of-host-17.pem'",
        "auth = 'https://login.example.org/v2.0/token'",
        "cache_key = 'resnet18-imagenet-v2'",
        "if token == 'resnet18-imagenet-v2':",
        "log('no such token: %s, see issue 1234567')",
        "postgres://user:password@localhost:5432/db",
    ],
)
def test_placeholders_hashes_and_programs_hold_no_token(text: str) -> None:
    assert secret_text(text.encode()) is None


def test_this_package_and_its_tests_hold_none() -> None:
    package = Path(lightning_debugkit.__file__).parent
    files = [*package.rglob("*.py"), *Path(__file__).parent.rglob("*.py")]
    assert len(files) > 50
    assert {path: found for path in files if (found := secret_name(path.name) or secret_text(path.read_bytes()))} == {}


@given(st.binary(max_size=300))
def test_any_bytes_can_be_judged(data: bytes) -> None:
    secret_text(data)


@pytest.mark.parametrize(
    "name",
    [
        *(".env", ".env.local", "prod.env", ".envrc", ".netrc", ".pypirc", ".npmrc", ".git-credentials"),
        *("credentials", "credentials.json", "google-credentials.json", "client_secret.json", "secrets.yaml"),
        *("server.pem", "TLS.KEY", "id_rsa", "id_ed25519", "kaggle.json", "my-service-account.json", "store.p12"),
    ],
)
def test_a_secret_is_known_by_name_in_any_folder(name: str) -> None:
    assert secret_name(f"deploy/{name}") == f"secret by its name: {name}"


@pytest.mark.parametrize(
    "name",
    [
        *(".env.example", ".env.sample", ".env.template", "id_rsa.pub", "secret_sharing.py", "credentials.py"),
        *("id_mapping.json", "environment.yaml", "keys.txt", "monkey", "tokenizer.json", "Secrets.ipynb", "README.md"),
        *("env.py", "environment", "secrets/model.py"),
    ],
)
def test_code_and_examples_are_not(name: str) -> None:
    assert secret_name(name) is None


@pytest.mark.parametrize(
    ("url", "scrubbed"),
    [
        ("https://token:x-oauth-basic@github.com", "https://github.com"),
        ("https://token@github.com/a/b.git", "https://github.com/a/b.git"),
        ("https://host/a?private_token=abc", "https://host/a"),
        ("https://host/a#abc", "https://host/a"),
        ("https://user:p@ss/word@host/x", "https://host/x"),
        ("https://user:p/ss@host/x", "https://host/x"),
        ("https://host/@user/x", "https://host/@user/x"),
        ("ssh://git@host:22/~/r", "ssh://host:22/~/r"),
        ("https://[::1]:80/a", "https://[::1]:80/a"),
        ("git@host:owner/r.git", "host:owner/r.git"),
        ("user:password@host:owner/r.git", "host:owner/r.git"),
        ("https://user:password%zz", "https://***"),
        ("/srv/git/x.git", "/srv/git/x.git"),
        ("../x", "../x"),
        (r"C:\git\x", r"C:\git\x"),
        ("file:///srv/x", "file:///srv/x"),
        ("", ""),
        ("https://host/" + TOKENS["GitLab"] + "/x.git", "https://***"),
    ],
)
def test_a_url_loses_user_password_query_and_fragment(url: str, scrubbed: str) -> None:
    assert scrub_url(url) == scrubbed


word = st.text(st.characters(categories=("Lu", "Ll", "Nd")), min_size=6, max_size=12)


@given(st.sampled_from(["https", "ssh", "s3"]), word, st.text(min_size=6), word)
def test_no_password_is_left_of_a_url(scheme: str, user: str, password: str, host: str) -> None:
    """Whatever it is made of: it is cut, not read."""
    secret = f"XyZ{password}qWe"
    if not set("?#") & set(secret):  # there, the URL ends
        assert "XyZ" not in scrub_url(f"{scheme}://{user}:{secret}@{host}.org/a").replace(host, "")


@pytest.mark.parametrize(
    ("arguments", "scrubbed"),
    [
        (["--token", "abc", "--lr", "1"], ["--token", "***", "--lr", "1"]),
        (["--hf_token=abc"], ["--hf_token=***"]),
        (["--logger.init_args.apiKey=abc"], ["--logger.init_args.apiKey=***"]),
        (["+wandb.api_key=abc"], ["+wandb.api_key=***"]),
        (["WANDB_API_KEY=abc"], ["WANDB_API_KEY=***"]),
        (["--password", "-dash"], ["--password", "***"]),
        (["--token", "--lr", "1"], ["--token", "--lr", "1"]),
        (["--token"], ["--token"]),
        (["--init={'secret': 'abc', 'n': 1}"], ["--init={'secret': \"***\", 'n': 1}"]),
        (["--url=https://me:abc@host/x?a=1"], ["--url=https://host/x?a=1"]),
        (["https://bucket/x?X-Amz-Signature=abc&b=1"], ["https://bucket/x"]),
        ([TOKENS["Hugging Face"]], ["***"]),
        (["--note=" + TOKENS["GitHub"]], ["--note=***"]),
        (["--max_tokens=5", "--pad_token", "<pad>"], ["--max_tokens=5", "--pad_token", "<pad>"]),
        (
            ["--tokenizer", "gpt2", "--author", "me", "--key", "x"],
            ["--tokenizer", "gpt2", "--author", "me", "--key", "x"],
        ),
        (["train.py", "", "\ud800"], ["train.py", "", "\ud800"]),
    ],
)
def test_arguments_keep_all_but_their_secrets(arguments: list[str], scrubbed: list[str]) -> None:
    assert scrub_arguments(arguments) == scrubbed
