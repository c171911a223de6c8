"""Secrets in commands: told by kind of name and by shape of value, and nothing else is hidden."""

from __future__ import annotations

import shlex
import sys
from typing import Any

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
    # in a list of variables, and behind another name
    "srun --export=ALL,HF_TOKEN=S11 python t.py",
    "srun --export=ALL,A=1,HF_TOKEN=S11,B=2 python t.py",
    "sbatch --export ALL,HF_TOKEN=S11 job.sh",
    "docker run --env=HF_TOKEN=S11 img",
    "docker run -eHF_TOKEN=S11 img",
    "docker run --env HF_TOKEN=S11 img",
    "apptainer exec --env B=2,HF_TOKEN=S11 i.sif x",
    "apptainer exec --env 'B=2,HF_TOKEN=a S11' i.sif x",
    "x --set=auth.password=S11",
    "x --set auth.password=S11",
    "mount -o user=u,pass=S11 //h/s /m",
    "cmake -DHF_TOKEN:STRING=S11 .",
    "cmake -DTOKEN=S11 .",
    "x --args='--token S11'",
    "sbatch --wrap='python t.py --token S11'",
    # in code
    """python -c 'import wandb; wandb.login(key="S11")'""",
    """python -c 'import wandb; wandb.login(host="h", key="S1100000aaaaaaaa")'""",
    """python -c 'wandb.login("S11")'""",
    """python -c 'import os; os.environ.setdefault("HF_TOKEN", "S11")'""",
    """python -c 'import os; os.putenv("HF_TOKEN", "S11")'""",
    """python -c 'import os; t(os.environ.get("HF_TOKEN", "S11"))'""",
    """python -c 'd = {"hf_token": ["S11"]}'""",
    """python -c 'get(u, auth=("me", "S11"))'""",
    """kubectl run x --overrides '{"env": [{"name": "HF_TOKEN", "value": "S11"}]}'""",
    # by the option of a program
    "mpiexec -genv HF_TOKEN S11 -n 2 x",
    "mpiexec -env HF_TOKEN S11 -n 2 x",
    "wandb login --relogin S11",
    "wandb login --host https://h S11",
    "docker login -u me -p S11",
    "docker login -u me -pS11 registry",
    "srun docker login -u me --password S11",
    "podman login -p S11 r",
    "curl --user bob:S11 http://h",
    "curl --user=bob:S11 http://h",
    "curl -sSLu me:S11 http://h",
    "curl -sSLume:S11 http://h",
    "curl -U me:S11 http://h",
    "mongosh -p S11",
    "ipmitool -H h -U u -P S11 dcmi power reading",
    "aws configure set aws_secret_access_key S11",
    "x https://api.telegram.org/bot123456:S11/sendMessage",
    "x --url=https://api.telegram.org/bot123456:S11/sendMessage",
    "x --ssh-private-key '-----BEGIN RSA PRIVATE KEY-----\nS11\n-----END RSA PRIVATE KEY-----'",
    "x --text 'a -----BEGIN PRIVATE KEY-----\nS11'",
    # by a name in the plural, or with a suffix
    "x --passwords S11",
    "x --passwords S11 S11b --lr 1",
    "x --hf-tokens=S11",
    "x --api_keys S11",
    "x --secret_key_base S11",
    "x --password1 S11",
    "x --pass1=S11",
    "x --tokenValue=S11",
    "x --my-secret-value S11",
    "x --hf_token_read S11",
    "x --api-token-v2 S11",
    "x --wandb_api_key_prod=S11",
    "env WANDBKEY=S11 x",
    "env HF_TOKEN_2=S11 x",
    # in a text
    """x "hf_token: 'S11'" """,
    """x "hf_token: 'S11 S11'" """,
    """x '{"hf_token": ["S11"]}'""",
    """x '{"hf_token": ["a", "S11"], "lr": 1}'""",
    """x '{"hf_token":"S11"}'""",
    """x '{"credentials": {"a": "S11"}}'""",
    """sh -c 'echo "{\\"hf_token\\": \\"S11\\"}"'""",
    "x 'HF_TOKEN = S11'",
    "x 'lr = 1; HF_TOKEN = S11'",
    "x HF_TOKEN:=S11",
    "x HF_TOKEN+=S11",
    r"bash -c 'export HF_TOKEN=abc\ S11; y'",
    r"bash -c 'y --token abc\ S11; y'",
    "bash -c 'export HF_TOKEN=$(echo S11); y'",
    "bash -c 'export HF_TOKEN=`echo S11`; y'",
    """bash -c 'export HF_TOKEN="$(echo "a S11")"; y'""",
    "bash -c 'export HF_TOKEN=${X:-S11}; y'",
    "bash -c 'export X=${HF_TOKEN:-S11}; y'",
    """bash -c 'export HF_TOKEN=a"b S11"; y'""",
    """bash -c 'y "A=1 HF_TOKEN=S11"; z'""",
    "x 'host=h password=S11 dbname=d'",
    "x 'DefaultEndpointsProtocol=https;AccountKey=S11==;EndpointSuffix=x'",
    "curl -H 'PRIVATE-TOKEN:S11' h",
    "curl -H 'Authorization: AWS4 Credential=a, Signature=S11' h",
    "bash -c 'curl -H \"Authorization: token S11\" u'",
    "bash -c 'curl -H Authorization:S11 u && y'",
    "x --token '$ecretS11'",
]
PLAIN = [
    "x --tokens 1e12 --max-tokens=4096 --max_new_tokens 128",
    "x --tokens=2T --seen-tokens 1_000 --token-counts=1,2,3",
    "x tokens=1e12 trainer.max_tokens=2T",
    "x --tokens 2T train.py",
    "x --tokenizer llama --tokenizer-path /x --num-tokens 3",
    "x --token-budget 1e9 --tokens_per_step 4096",
    "x --key-frames 3 --monkey a --author Ada --kv-keys 4 --auth-none x",
    "x --pass 2 --passes 3 --secretary Ann --pass=2",
    "x --eos_token '</s>' --pad-token '<pad>' --special_tokens '<a>,<b>' --suppress_tokens -1",
    "x --eos_token_id 2 --image_token_index 32000 --token-dropout 0.1",
    "x --tokens auto --stop-token '<|im_end|>' --tokens '<a>,<b>'",
    """x '{"tokens": "text", "token_type_ids": [1]}'""",
    """python -c 'def f(token: str, api_key: str | None): pass'""",
    "bash -c 'export WANDB_API_KEY=$(cat ~/.wandb_key) && y'",
    "x --tokens /data/tokens.bin --train-tokens=./tokens",
    "srun --export=ALL,PATH=/a,OMP_NUM_THREADS=4 x",
    "srun --export=ALL --mem=4G x",
    "docker run --user 1000:1000 --env=A=1 -e HF_TOKEN img",
    "docker run -u 1000 -p 80:80 img",
    "bash -c 'docker login r; docker run -p 8080:80 img'",
    "curl -sSL -o out http://h",
    "x --scheme http -a b --pack zip -P 4",
    "bsub -env all,HF_TOKEN x",
    """x '[{"name": "LR", "value": "1"}]'""",
    "tar -xzf a.tar",
    "x --mode login -p 8080",
    "x lr=0.1,wd=0.2 --set=a.b=c",
    "x 'model.name=llama,data.path=/x'",
    """python -c 'import os; t = os.environ["HF_TOKEN"]; login(token=os.environ["HF_TOKEN"])'""",
    """python -c 'token = tok.decode(ids); tokens = x[0]; n_tokens = n'""",
    """python -c 'if token == 3: print(token != 4)'""",
    """python -c 'd.get("a", "b"); d.get("tokenizer", "llama")'""",
    "x '{token: ${oc.env:HF_TOKEN}}'",
    "bash -c 'export HF_TOKEN=${HF_TOKEN}; x --token $HF_TOKEN'",
    "x image/auth:1.2 auth:8080",
    'x \'{"tokens": [1, 2], "max_tokens": 5, "keys": ["a"]}\'',
    "x --api-key-file f --keys a b --text-keys text",
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
        (
            ["bash", "-lc", 'curl -H "Authorization: Bearer x" u && python y'],
            ["bash", "-lc", 'curl -H "Authorization: ***" u && python y'],
        ),
        (
            ["bash", "-c", "curl -H Authorization:x u && python y"],
            ["bash", "-c", "curl -H Authorization:*** u && python y"],
        ),
        (
            ["srun", "--export=ALL,HF_TOKEN=a,B=2", "x"],
            ["srun", "--export=ALL,HF_TOKEN=***,B=2", "x"],
        ),
        (["x", '{"hf_token": ["a"], "lr": 1}'], ["x", '{"hf_token": ***, "lr": 1}']),
        (["x", "hf_token: 'a', lr: 1"], ["x", "hf_token: '***', lr: 1"]),
        (["x", "f(token='a', lr=1)"], ["x", "f(token='***', lr=1)"]),
        (
            ["python", "-c", "wandb.login(key='a'); go()"],
            ["python", "-c", "wandb.login(key='***'); go()"],
        ),
        (["bash", "-c", "X=$(date) T_TOKEN=$(a b) y"], ["bash", "-c", "X=$(date) T_TOKEN=*** y"]),
        (
            ["bash", "-c", "wandb login a; srun -p gpu y b"],
            ["bash", "-c", "wandb login ***; srun -p gpu y b"],
        ),
        (["docker", "login", "-u", "me", "-p", "a"], ["docker", "login", "-u", "me", "-p", "***"]),
    ],
)
def test_only_the_secret_goes(command: list[str], shown: list[str]) -> None:
    assert redact(command) == tuple(shown)


def test_messages_show_no_password() -> None:
    said = "cannot reach postgresql+psycopg://ada:S11@h:5432/d?sslpassword=S11&x=1 now"
    shown = "cannot reach postgresql+psycopg://ada:***@h:5432/d?sslpassword=***&x=1 now"
    assert redact_text(said) == shown


# A secret stands for S11 in any of the forms, and nowhere in what is shown. As an argument of its
# own it may be of any characters; in a script, of those that are not the shell's.
ARGUMENTS = [
    [form.format(name=name), *rest]
    for name in ("hf-tokens", "API_KEY", "wandbApiKeyProd", "db.password2", "my_secret_value")
    for form, rest in [
        ("--{name}=S11", []),
        ("--{name}", ["S11"]),
        ("{name}=S11", []),
        ("--env={name}=S11", []),
        ("--export=ALL,{name}=S11", []),
        ("ALL,A=1,{name}=S11,B=2", []),
        ("-D{name}:STRING=S11", []),
        ("{name}:=S11", []),
    ]
]
SCRIPTS = [
    "export HF_TOKEN=S11; python y",
    "export HF_TOKEN='S11'; python y",
    'y "HF_TOKEN=S11" && z',
    "y --token S11 --lr 1",
    'y --hf-tokens="S11" --lr 1',
    "wandb login S11 && y",
    'wandb.login(key="S11", relogin=True)',
    'os.environ["HF_TOKEN"] = "S11"',
    "HF_TOKEN = S11",
    '{"lr": 1, "hf_token": "S11"}',
    '{"lr": 1, "hf_tokens": ["S11", "S11"]}',
    "{lr: 1, hf_token: S11}",
    "{hf_token: S11, lr: 1}",
    "hf_token: 'S11'",
    'curl -H "Authorization: Bearer S11" u && y',
    "curl --user bob:S11 u; y",
    "host=h password=S11 dbname=d",
]
ANY_SECRET = st.text(
    st.characters(categories=("L", "N", "P", "S", "Zs"), max_codepoint=0x2FF), min_size=4
).map("qZ9{}".format)
# A comma and an equals sign may begin the next variable of a list.
ARGUMENT_SECRET = ANY_SECRET.filter(lambda secret: "," not in secret)
SCRIPT_SECRET = st.from_regex(r"qZ9[A-Za-z0-9_.!%@^*~+/:?=#-]{4,40}", fullmatch=True)


@given(st.sampled_from(ARGUMENTS), ARGUMENT_SECRET)
def test_any_secret_is_hidden_as_an_argument(form: list[str], secret: str) -> None:
    shown = redact(["x", *(word.replace("S11", secret) for word in form), "--lr", "1"])
    assert secret not in "\n".join(shown)
    assert "qZ9" not in "\n".join(shown)
    assert shown[-2:] == ("--lr", "1")


@given(st.sampled_from(SCRIPTS), SCRIPT_SECRET, st.sampled_from(["bash -c", "python -c", "ssh h"]))
def test_any_secret_is_hidden_in_a_script(form: str, secret: str, runner: str) -> None:
    command = [*runner.split(), form.replace("S11", secret), "--lr", "1"]
    shown = redact(command)
    assert "qZ9" not in "\n".join(shown)
    assert shown[-2:] == ("--lr", "1")
    assert redact(shown) == shown


PARTS = [
    "eyJaaaaaaaaa-", "x-x-", "1--", "a:/", "a:/b:c@", "token=", ",a=b", ",token=b", "]", "$(", '"',
    "\\'", "'\"", "login(", "Bearer ", "-----BEGIN PRIVATE KEY-----", "hf_token: [", "a.b-", "${",
    "wandb login ", "--token ", "Authorization: ", "token='",
]  # fmt: skip


@pytest.mark.parametrize("part", PARTS)
def test_the_longest_command_costs_no_more_than_its_length(part: str) -> None:
    def cost(times: int) -> int:
        """The lines of Python that were run, which depend on no clock."""
        lines = 0

        def count(*_: object) -> Any:
            nonlocal lines
            lines += 1
            return count

        before = sys.gettrace()
        sys.settrace(count)
        try:
            redact(["x", "-c", part * times, "--tokens", "1-" * times + "!"])
        finally:
            sys.settrace(before)
        return lines

    assert cost(1200) < 8 * cost(300) + 1000


@given(st.lists(st.text(max_size=40), max_size=8))
def test_any_command_has_a_redacted_form_of_as_many_words(command: list[str]) -> None:
    shown = redact(command)
    assert len(shown) == len(command)
    assert redact(shown) == shown  # once is enough


PIECES = [
    "'", '"', "\\", " ", "=", ":", ",", ";", "&", "(", ")", "$(", "{", "}", "[", "]", "***", "$A",
    "a", "1", "/", "@", "?", "://", "-c", "sh", "--token", "--hf-tokens", "HF_TOKEN", "wandb",
    "login", "docker", "-p", "curl", "-u", "Authorization: ", "Bearer ", "auth", "api_key", "set",
]  # fmt: skip


@given(st.lists(st.lists(st.sampled_from(PIECES), max_size=12).map("".join), max_size=4))
def test_what_is_redacted_stays_as_it_is(command: list[str]) -> None:
    shown = redact(command)
    assert len(shown) == len(command)
    assert redact(shown) == shown
