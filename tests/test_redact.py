"""Secrets in commands: told by kind of name and by shape of value, and nothing else is hidden."""

from __future__ import annotations

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbontrack.redact import redact, redact_text

# S11 is the secret.
SECRETS = [
    # in code, and as the operand of what takes a secret
    """python -c 'import os; os.environ["HF_TOKEN"] = "S11"; import t'""",
    """python -c 'login(token="S11")'""",
    "x --cfg '{lr: 1, token: S11}'",
    "x --header 'Api-Key: S11'",
    "wandb login S11",
    "sh -c 'true; #AWS_SECRET_ACCESS_KEY=S11'",
    "bash -c 'pip install wandb; wandb login S11 && python t.py'",
    "csh -c 'setenv HF_TOKEN S11; python t.py'",
    "fish -c 'set -gx HF_TOKEN S11; python t.py'",
    "x --notify https://hooks.slack.com/services/T0AB1/B0CD2/S11S11S11S11S11S11S11S11",
    "x --notify=https://discord.com/api/webhooks/123456789012345678/S11abcS11_def-S11",
    # by name, as an option
    "x --api-key=S11 --lr=1",
    "x --hf-token S11 --lr 1",
    "x --hf_token=S11",
    "x --token S11",
    "x --token -S11",
    "x --secret-key S11",
    "x --wandb_key S11",
    "x --openai-key=S11",
    "x --private_key S11",
    "x --auth S11",
    "x --auth-key=S11",
    "x --pat S11",
    "x --github-pat S11",
    "x --passphrase S11",
    "x --passphrase=S11",
    "x --password S11",
    "x --db-password=S11",
    "x --client-secret S11",
    "x --accessToken S11",
    "x --wandbApiKey=S11",
    "x --apikey S11",
    "x --credentials S11",
    "x --wandb-key S11",
    "x +trainer.api_key=S11",
    "x wandb.api_key=S11",
    # as a variable
    "env WANDB_API_KEY=S11 x",
    "env HF_TOKEN=S11 python train.py",
    "HF_TOKEN=S11 x",
    "env PGPASSWORD=S11 x",
    "env AWS_SECRET_ACCESS_KEY=S11 x",
    "env MYSQL_PWD=S11 x",
    "env AWS_ACCESS_KEY_ID=S11 x",
    "env KAGGLE_KEY=S11 x",
    "env GITHUB_PAT=S11 x",
    "env HUGGING_FACE_HUB_TOKEN=S11 x",
    # as a short option
    "mysql -pS11 db",
    "mysql -u root -pS11",
    "x -pS11",
    "sshpass -p S11 ssh h",
    "sshpass -pS11 ssh h",
    "redis-cli -a S11 ping",
    "curl -u ada:S11 http://h/",
    # in an address
    "x postgresql://ada:S11@host/db",
    "x --db postgresql://ada:S11@host/db",
    "x --db=postgresql://ada:p@S11/x@host/db",
    "x postgresql://ada:S11/x@host/db",
    "x https://S11@github.com/a/b",
    "git clone https://ada:S11@github.com/a/b",
    "x 'https://h/p?a=1&token=S11'",
    "x 'https://h/p?sslpassword=S11'",
    "x 'https://a.blob.core.windows.net/c?sv=2022&sig=S11'",
    "x 'https://s3/b?X-Amz-Signature=S11&v=1'",
    "x postgresql:/ada:S11@h/d",
    # in a header, JSON, a script
    "curl -H 'Authorization: Bearer S11' http://h",
    "curl -H 'X-Api-Key: S11' http://h",
    "curl -H 'Cookie: a=S11' http://h",
    'x \'{"hf_token": "S11", "lr": 1}\'',
    "x \"{'api_key': 'S11'}\"",
    "bash -lc 'export HF_TOKEN=S11; python train.py'",
    "bash -c 'A=1 HF_TOKEN=S11 ./x'",
    "x 'A=1 HF_TOKEN=S11'",
    "sh -c 'python t.py --token S11 --lr 1'",
    "sh -c 'python t.py --token=\"S11 x\" --lr 1'",
    "bash -c 'wandb login --key x; ./x --api-key S11'",
    "ssh h 'HF_TOKEN=S11 python train.py'",
    # by shape
    "x hf_S11abcdefghijklmnopqrstuvwxyz",
    "x --id sk-S11abcdefghij0123456789",
    "x ghp_S11abcdefghijklmnop0123",
    "x github_pat_S11abcdefghijklmnop0123",
    "x glpat-S11abcdefghijklmnop",
    "x AKIAS11EXAMPLEEXAMPLE",
    "x eyJhbGciOiJI.S11abcdef.sig",
    "x --name=xoxb-S11-abcdefghij",
    "x aB3dE6S11gH2iJ5kL8mN1oP4qR7",
    "x --what aB3dE6S11gH2iJ5kL8mN1oP4qR7sT9",
    "echo nvapi-S11abcdefghijklmnopqrstuv",
]
PLAIN = [
    """python -c 'print(key="a", tokenizer="b")'""",
    "x --cfg '{lr: 1, max_tokens: 2048}'",
    "mpirun -x HF_TOKEN python t.py",
    "wandb sync run",
    "x --tokens 2T",
    "x --tokens 2048",
    "x --max_tokens=5 --tokenizer=a",
    "x --pat-size 16",
    "x --patience 3",
    "x --key-dim 64",
    "x --sort-key loss",
    "x --text-key text",
    "x --num-tokens=2e12",
    "x --pad-token '<pad>' --eos_token '</s>' --bos-token BOS",
    "x --mask-token=[MASK]",
    "x --use-auth-token true",
    "x --use_auth_token=True",
    "x --token --verbose",
    "x --max-new-tokens 5",
    "x --tokens-per-step 4194304",
    "x --passes 3",
    "x --pass-through",
    "x --secretary Ann",
    "x --commit 3f786850e387550fdab836ed7e6dc881de23001b",
    "x --rev=3f786850e387550fdab836ed7e6dc881de23001b",
    "x --sha256 e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "x sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "x --run-id 0190a5b6-7c1d-7e2f-8a3b-4c5d6e7f8091",
    "x /data/Llama-2-7b-hf/model-00001-of-00002.safetensors",
    "x --model meta-llama/Meta-Llama-3.1-8B-Instruct-bnb-4bit",
    "x --name Llama2ChatFinetuned20241212",
    "x --ssh-key ~/.ssh/id_rsa",
    "x --private-key=/etc/ssl/key.pem",
    "x --password-file /run/secret",
    "x --token-file tok.txt",
    "x http://localhost:8000/v1/models",
    "x --url http://h:80/a@b",
    "x ssh://git@github.com/a/b.git",
    "x git@github.com:a/b.git",
    "x postgresql://ada@host/db",
    "x s3://bucket/KeyPrefix/part-0001",
    "x --image-key jpg --label_key cls",
    "x --keys a,b",
    "env PWD=/home/ada x",
    "env PATH=/usr/bin:/bin PYTHONPATH=/a:/b x",
    "srun -pA100 -N2 x",
    "srun -p gpu x",
    "docker run -p 8080:80 img",
    "x -p8080",
    "x -p 4",
    "python -c 'for i in range(3): print(i)'",
    "bash -lc 'module load cuda/12.1; torchrun --nproc-per-node 8 t.py'",
    'x \'{"lr": 3e-4, "name": "a b"}\'',
    "x --author Ada",
    "x --authors a",
    "x --signature-size 5",
    "x --monkey 3",
    "x --pinned-memory",
    "bash -c 'echo $HF_TOKEN; ./x --token $HF_TOKEN'",
    "x --lr 0.0003 --betas 0.9,0.95",
    "x --seed 123456789012345678901234",
    "x --date 2026-01-31T12:00:00Z",
    "x --ckpt step=00012000-loss=2.3456.ckpt",
    "x --dataset HuggingFaceFW/fineweb-edu-score-2",
    "x --gres=gpu:a100:8",
    "x --exp 20260131T120000Z_lr3e-4_bs512_wd0.1",
    "x --filter 'a == 1 && b == 2'",
    "x --compile_mode max-autotune-no-cudagraphs",
    "x --cls_token CLS --num_cls_tokens 1",
    "x --ulid 01ARZ3NDEKTSV4RRFFQ69G5FAV",
    "x 'Say: basic things are easy'",
    "x --basic skills",
]


@pytest.mark.parametrize("command", SECRETS)
def test_a_secret_is_hidden(command: str) -> None:
    words = shlex.split(command)
    shown = redact(words)
    assert "S11" not in " ".join(shown)
    assert "***" in " ".join(shown)
    assert shown[0] == words[0] or "=" in words[0]


@pytest.mark.parametrize("command", PLAIN)
def test_what_is_ordinary_stays(command: str) -> None:
    words = tuple(shlex.split(command))
    assert redact(words) == words


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        (["x", "--api-key=abc", "--lr=1"], ["x", "--api-key=***", "--lr=1"]),
        (["env", "HF_TOKEN=a", "python", "t.py"], ["env", "HF_TOKEN=***", "python", "t.py"]),
        (["x", "--token", "a", "--lr", "1"], ["x", "--token", "***", "--lr", "1"]),
        (["x", "postgresql://me:p@s/s@host/db"], ["x", "postgresql://me:***@host/db"]),
        (["x", "https://abc@github.com/a"], ["x", "https://***@github.com/a"]),
        (
            ["bash", "-c", "export A=1 HF_TOKEN=a; ./x --lr 1 | tee 'a b'"],
            ["bash", "-c", "export A=1 HF_TOKEN=***; ./x --lr 1 | tee 'a b'"],
        ),
        (["curl", "-H", "Authorization: Bearer a"], ["curl", "-H", "Authorization: ***"]),
    ],
)
def test_only_the_secret_goes(command: list[str], shown: list[str]) -> None:
    assert redact(command) == tuple(shown)


def test_messages_show_no_password() -> None:
    said = "cannot reach postgresql+psycopg://ada:S11@h:5432/d?sslpassword=S11&x=1 now"
    shown = "cannot reach postgresql+psycopg://ada:***@h:5432/d?sslpassword=***&x=1 now"
    assert redact_text(said) == shown


@given(st.lists(st.text(max_size=40), max_size=8))
def test_any_command_has_a_redacted_form_of_as_many_words(command: list[str]) -> None:
    shown = redact(command)
    assert len(shown) == len(command)
    assert redact(shown) == shown  # once is enough


@given(st.lists(st.sampled_from(["'", '"', " ", "=", "--token", ";", "a", "(", "-c", "sh"])))
def test_a_script_of_odd_quotes_has_one_too(parts: list[str]) -> None:
    (shown,) = redact(["".join(parts)])
    assert isinstance(shown, str)
