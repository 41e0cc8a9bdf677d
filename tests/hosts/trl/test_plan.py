"""What a TRL configuration may ask for, and what is refused by name before anything is loaded."""

import inspect
import json
import logging
import re
import subprocess
import sys

import pytest
import trl
from trl import GRPOConfig, GRPOTrainer
from trl_runs import config, stock, trainer

from entropo_plugin.fields import ConfigError
from entropo_plugin.hosts.trl import EntropoGRPOConfig, EntropoGRPOTrainer, EntropoMixin
from entropo_plugin.hosts.trl.compat import METHODS, check_host, missing
from entropo_plugin.hosts.trl.facts import host_of
from entropo_plugin.hosts.trl.plan import LOSS_TYPES, Plan
from entropo_plugin.hosts.trl.rollout import FORWARD

REPO, ADAPO, KL, CLIP = ({"methods": [name]} for name in ("repo_r", "adapo", "kl_cov", "clip_cov"))
TWICE = {"num_iterations": 2}
REFUSED = {
    "a wrong key": ({"repo": {"zeat": 1}}, {}, r"entropo.repo.zeat"),
    "out of bounds": (REPO | {"repo": {"zeta": {"high": -1}}}, {}, r"entropo.repo.zeta.high=-1"),
    "an unknown method": ({"methods": ["repo"]}, {}, r"no method is called 'repo'"),
    "a key that nothing reads": ({"repo": {"zeta": {"high": 0.3}}}, {}, r"nothing that runs reads it"),
    "no dict": ([1], {}, r"entropo"),
    "two controllers": (REPO, {"use_adaptive_entropy": True}, r"use_adaptive_entropy=True.*REPO-R"),
    "two bonuses": ({"methods": ["entropy_bonus"]}, {"use_adaptive_entropy": True}, r"use_adaptive_entropy=True"),
    "ADAPO at ratio 1": (ADAPO, {}, r"ADAPO cannot act.*num_iterations to 2"),
    "KL-Cov at ratio 1": (KL, {}, r"KL-Cov cannot act.*num_iterations to 2"),
    "sequence and shape": (
        REPO,
        {"importance_sampling_level": "sequence"},
        r"sampling_level=sequence.*REPO",
    ),
    "sequence and loss": (ADAPO, TWICE | {"importance_sampling_level": "sequence"}, r"importance_sampling_level=seq"),
    "another loss": (ADAPO, TWICE | {"loss_type": "cispo"}, r"loss_type=cispo: ADAPO.*would replace"),
    "two masks": (CLIP, {"top_entropy_quantile": 0.2}, r"top_entropy_quantile=0.2.*Clip-Cov"),
    "a mask and a loss": (ADAPO, TWICE | {"top_entropy_quantile": 0.2}, r"top_entropy_quantile=0.2.*ADAPO"),
    "delta": (ADAPO, TWICE | {"delta": 4.0}, r"delta=4.0: ADAPO.*does not read it"),
    "off-policy mask": (ADAPO, TWICE | {"off_policy_mask_threshold": 0.5}, r"off_policy_mask_threshold=0.5"),
    "mini_batch": (CLIP | {"clip_cov": {"scope": "mini_batch"}}, {}, r"scope=mini_batch.*TRL shuffles"),
    "micro_batch": (CLIP | {"clip_cov": {"scope": "micro_batch"}}, {}, r"scope=micro_batch"),
    "verl's CPU host": ({"host": "cpu"}, {}, r"entropo.host=cpu"),
    "the token file": ({"monitor": {"tokens": 5}}, {}, r"entropo.monitor.tokens=5"),
    "an unknown loss": ({}, {"loss_type": "gpro"}, r"loss_type='gpro': unknown"),
    "a door at ratio 1": ({}, {"loss_type": "adapo"}, r"ADAPO cannot act"),
    "two losses": (KL | ADAPO, TWICE | {"loss_type": "entropo_clip_cov"}, r"loss"),
}


@pytest.mark.parametrize(("entropo", "changes", "words"), REFUSED.values(), ids=REFUSED)
def test_refused_by_name(tmp_path, entropo, changes, words):
    with pytest.raises(ConfigError, match=words):
        config(tmp_path, entropo, **changes)


def test_what_trl_refuses_is_a_value_error_of_ours(tmp_path):
    with pytest.raises(ValueError, match="entropo.repo.zeta.high"):
        config(tmp_path, REPO | {"repo": {"zeta": {"high": "much"}}})


@pytest.mark.parametrize(
    ("changes", "updates"),
    [
        ({}, 1),
        ({"num_iterations": 2}, 2),
        ({"num_iterations": 3, "steps_per_generation": 4}, 6),
        ({"gradient_accumulation_steps": 4, "steps_per_generation": 2}, 1),
        ({"gradient_accumulation_steps": 4, "steps_per_generation": 2, "num_iterations": 2}, 1),
        ({"gradient_accumulation_steps": 3, "steps_per_generation": 2}, 2),
    ],
)
def test_optimizer_steps_of_a_rollout_batch(tmp_path, changes, updates):
    assert host_of(config(tmp_path, **changes)).updates == updates


def test_a_stock_configuration_is_only_measured(tmp_path):
    plan = Plan.of(GRPOConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False))
    assert plan.methods == ()
    assert plan.in_words() == "entropo: measures only; policy loss dapo"


def test_the_dict_may_come_as_json_from_a_command_line(tmp_path):
    from trl import TrlParser

    words = ["--output_dir", str(tmp_path), "--use_cpu", "true", "--bf16", "false", "--entropo", json.dumps(REPO)]
    (args,) = TrlParser((EntropoGRPOConfig,)).parse_args_and_config(words)
    assert [method.name for method in Plan.of(args).methods] == ["repo_r"]
    with pytest.raises(ConfigError, match="entropo='repo_r' is not JSON"):
        config(tmp_path, "repo_r")


def test_the_start_up_line_is_logged_once_and_written_down(tmp_path, caplog):
    with caplog.at_level(logging.INFO, logger="entropo_plugin"):
        trainer(config(tmp_path, REPO | {"target": {"fraction": 0.8}}))
    line = (
        "entropo: REPO-R on TRL's own advantages; policy loss dapo; target 0.8 x the initial entropy; zeta by doubling "
        "within [-0.05, 0.05]"
    )
    assert [record.getMessage() for record in caplog.records].count(line) == 1
    assert json.loads((tmp_path / "run.json").read_text())["line"] == line


def test_the_mixin_also_stands_before_a_subclass(tmp_path):
    class Theirs(GRPOTrainer):
        pass

    class Both(EntropoMixin, Theirs):
        pass

    run = trainer(config(tmp_path, REPO), Both)
    run.train()
    assert run.rollouts == 2


class UnslothGRPOTrainer(GRPOTrainer):
    """As unsloth names what it puts in TRL's place."""


def test_a_rewritten_trainer_is_refused_by_name():
    with pytest.raises(ConfigError, match="UnslothGRPOTrainer.*unsloth has rewritten"):
        check_host(type("Both", (EntropoMixin, UnslothGRPOTrainer), {}))


@pytest.mark.parametrize("version", ["1.15.9", "1.17.0", "2.0.0.dev0", "0.29"])
def test_a_trl_that_was_not_tested_is_refused(monkeypatch, version):
    monkeypatch.setattr(trl, "__version__", version)
    with pytest.raises(ConfigError, match=f'trl=={version}.*"trl>=1.16,<1.17"'):
        check_host(EntropoGRPOTrainer)


def test_contract_every_private_method_that_we_lean_on_is_there(tmp_path):
    assert missing(GRPOTrainer) == []
    own = [name for name, value in vars(EntropoMixin).items() if callable(value) and hasattr(GRPOTrainer, name)]
    assert {name for name in own if not name.startswith("__")} <= set(METHODS)
    run = stock(config(tmp_path, max_steps=1))
    run.train()
    for name in ATTRIBUTES:
        assert hasattr(run, name), f"GRPOTrainer has no {name} any more, which hosts/trl reads or sets."


ATTRIBUTES = (
    "loss_type",
    "importance_sampling_level",
    "entropy_coef",
    "_entropy_bonus_enabled",
    "current_gradient_accumulation_steps",
    "max_completion_length",
    "reward_weights",
    "eos_token_ids",
    "_tokenizer",
    "_metrics",
    "accelerator",
)


def test_contract_the_loss_asks_for_log_probs_before_it_reads_the_advantages():
    source = inspect.getsource(GRPOTrainer._compute_loss)
    passed = source.index("self._get_per_token_logps_and_entropies(")
    assert passed < source.index('inputs["advantages"]'), "TRL reads the advantages before its forward pass."
    read = {name for name in FORWARD if f'inputs.get("{name}")' in source}
    assert read == set(FORWARD), "TRL's forward pass takes other inputs."
    assert source.count("inputs.get(") == len(FORWARD) + 3, "TRL's loss reads inputs that hosts/trl does not know."


def test_contract_every_loss_type_of_trl_is_known():
    source = inspect.getsource(GRPOTrainer._compute_loss)
    named = re.findall(r'"(\w+)"', " ".join(re.findall(r"self\.loss_type (?:==|!=|in) (.*)", source)))
    assert set(named) == set(LOSS_TYPES)


def test_contract_a_missing_method_is_one_sentence():
    class Changed:
        def _compute_loss(self, batch):
            """Another argument."""

    sentences = missing(Changed)
    assert "Changed._generate_and_score_completions is gone, which hosts/trl overrides or calls." in sentences
    assert "Changed._compute_loss has no argument model, inputs any more." in sentences


def test_importable_without_verl(tmp_path):
    script = (
        "import sys\n"
        "for name in ('verl', 'ray', 'hydra', 'omegaconf', 'tensordict', 'transfer_queue', 'vllm'):\n"
        "    sys.modules[name] = None\n"
        "from entropo_plugin.hosts.trl import EntropoGRPOTrainer, EntropoGRPOConfig, EntropoMixin\n"
        "from entropo_plugin.hosts.trl.plan import Plan\n"
        f"args = EntropoGRPOConfig(output_dir={str(tmp_path)!r}, use_cpu=True, bf16=False,\n"
        "    entropo={'methods': ['repo_r', 'clip_cov']})\n"
        "print(Plan.of(args).in_words())\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=3600)
    assert done.stdout.startswith("entropo: REPO-R on TRL's own advantages"), done.stderr
