"""How methods are found and which of them run: each refusal is one sentence with the names that exist."""

import ast
import re
import types
from dataclasses import dataclass, make_dataclass
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

import entropo_plugin
from entropo_plugin.config import defaults, describe, parse
from entropo_plugin.control import Coefficient
from entropo_plugin.fields import ConfigError, key
from entropo_plugin.methods import Host, Method, registry
from entropo_plugin.methods.active import activate
from entropo_plugin.methods.active import describe as in_words
from entropo_plugin.recipe_files import folder

ROOT = Path(__file__).parents[1]
OURS = ", ".join(registry.known())


@dataclass(frozen=True)
class Settings:
    size: float = key(1.0, "size", low=0.0, high=2.0)


class Theirs(Method):
    name, title, node, settings_type = "theirs", "Their method", "theirs", Settings


@pytest.fixture
def install(monkeypatch):
    """Entry points of one made-up package, beside our own methods."""
    for name in ("_known", "_failures"):
        monkeypatch.setattr(registry, name, dict(getattr(registry, name)))
    monkeypatch.setattr(registry, "_loaded", set())

    def entries(**methods):
        module = types.ModuleType("package_of_theirs")
        monkeypatch.setitem(__import__("sys").modules, module.__name__, module)
        found = []
        for name, method in methods.items():
            setattr(module, name, method)
            found.append(EntryPoint(name, f"{module.__name__}:{name}", registry.GROUP))
        monkeypatch.setattr(registry, "_installed", lambda: found)

    return entries


def run(node, **host):
    return activate(parse(node), Host(**({"estimator": "grpo"} | host)))


def refused(node, **host):
    with pytest.raises(ConfigError) as caught:
        run(node, **host)
    return str(caught.value)


def test_a_package_brings_a_method_with_its_settings(install):
    install(theirs=Theirs)
    (method,) = run({"methods": ["theirs"], "theirs": {"size": 0.5}})
    assert isinstance(method, Theirs) and method.settings == Settings(0.5)
    assert defaults()["theirs"] == {"size": 1.0}
    assert ("entropo.theirs.size", 1.0, "[0, 2]", "size", "ours") in describe()
    assert in_words([method], parse({}), Host()) == "entropo: Their method; policy loss vanilla"


def test_methods_run_in_the_order_in_which_they_are_named(install):
    install(theirs=Theirs)
    names = [method.name for method in run({"methods": ["theirs", "repo_r", "adapo"]})]
    assert names == ["theirs", "repo_r", "adapo"]


def test_a_method_named_twice():
    assert refused({"methods": ["adapo", "adapo"]}) == "entropo.methods names adapo more than once. Name it once."


def test_an_unknown_method():
    said = refused({"methods": ["adappo"]})
    assert said == f"entropo.methods: no method is called 'adappo'. Did you mean adapo? Known here: {OURS}."
    assert refused({"methods": ["zzzzz"]}).endswith(f"called 'zzzzz'. Known here: {OURS}.")


@pytest.mark.parametrize("choice", ["adapo", [1], 3, None])
def test_methods_that_are_no_list_of_names(choice):
    assert refused({"methods": choice}).endswith("expected a list of names. Write entropo.methods=[NAME].")


def no_key():
    return type("Theirs", (Theirs,), {"settings_type": make_dataclass("Bare", [("size", float, 1.0)])})


def out_of_bounds():
    item = ("size", float, key(3.0, "size", low=0.0, high=2.0))
    return type("Theirs", (Theirs,), {"settings_type": make_dataclass("Wide", [item])})


FAULTS = [
    (lambda: type("Theirs", (Theirs,), {"name": "other"}), "the entry point is called 'theirs', its method 'other'"),
    (lambda: type("Theirs", (Theirs,), {"node": "repo"}), "the settings entropo.repo exist already"),
    (lambda: type("Theirs", (Theirs,), {"node": "target"}), "the settings entropo.target exist already"),
    (lambda: type("Theirs", (Theirs,), {"name": ""}), "the entry point is called 'theirs', its method ''"),
    (lambda: object, "package_of_theirs:theirs is not a subclass of entropo_plugin.methods.Method"),
    (no_key, "entropo.theirs.size is a plain field: declare it with entropo_plugin.fields.key or group"),
    (out_of_bounds, "entropo.theirs.size=3.0: out of range. Set entropo.theirs.size to a number in [0, 2]."),
]


@pytest.mark.parametrize(("make", "reason"), FAULTS, ids=[reason[:40] for _, reason in FAULTS])
def test_a_faulty_method_is_refused_by_name_and_stops_nobody_else(install, make, reason, caplog):
    install(theirs=make())
    assert [method.name for method in run({"methods": ["adapo"]})] == ["adapo"]
    assert reason in caplog.text
    said = refused({"methods": ["theirs"]})
    assert said.startswith("entropo.methods: theirs cannot run, ") and reason in said
    assert said.endswith(f"Known here: {OURS}.")
    assert "theirs" not in defaults()


def test_a_package_that_fails_to_import(install, monkeypatch):
    install()
    entry = EntryPoint("theirs", "no_such_package_of_theirs:Theirs", registry.GROUP)
    monkeypatch.setattr(registry, "_installed", lambda: [entry])
    assert refused({"methods": ["theirs"]}) == (
        "entropo.methods: theirs cannot run, no_such_package_of_theirs:Theirs failed to load: ModuleNotFoundError: No "
        f"module named 'no_such_package_of_theirs'. Known here: {OURS}."
    )


def test_a_name_that_we_have_already(install, caplog):
    install(adapo=type("Theirs", (Theirs,), {"name": "adapo"}))
    (method,) = run({"methods": ["adapo"]})
    assert type(method).__module__ == "entropo_plugin.methods.adapo"
    assert "the method 'adapo' is entropo_plugin.methods.adapo's already" in caplog.text


def test_two_packages_with_one_name(install, monkeypatch, caplog):
    install(theirs=Theirs, second=type("Second", (Theirs,), {}))
    first, second = registry._installed()
    both = [first, EntryPoint("theirs", second.value, registry.GROUP)]
    monkeypatch.setattr(registry, "_installed", lambda: both)
    assert type(run({"methods": ["theirs"]})[0]) is Theirs
    assert "the method 'theirs' is" in caplog.text


def test_a_decorated_class_that_takes_our_settings_is_not_half_known(install):
    install()
    with pytest.raises(ValueError, match="the settings entropo.adapo exist already"):
        registry.register(type("Theirs", (Theirs,), {"node": "adapo"}))
    assert "theirs" not in registry.known()


def owner(name):
    return type("Theirs", (Theirs,), {"name": name, "owns_loss": True})


def test_two_methods_with_a_loss(install):
    install(theirs=owner("theirs"))
    said = refused({"methods": ["adapo", "theirs"]})
    assert said == "entropo.methods: adapo and theirs both have a policy loss of their own. Take one of them out."
    said = refused({"methods": ["theirs"]}, loss_mode="gspo")
    assert said == (
        "actor_rollout_ref.actor.policy_loss.loss_mode=gspo: Their method has a policy loss of its own, which would "
        "replace it. Delete actor_rollout_ref.actor.policy_loss.loss_mode, or take theirs out of entropo.methods."
    )


def needing(*names):
    return type("Theirs", (Theirs,), {"needs": lambda self: frozenset(names)})


def test_a_field_that_no_host_has(install):
    install(theirs=needing("logits"))
    assert refused({"methods": ["theirs"]}) == (
        "entropo.methods: theirs needs 'logits', which no host has. A method can need: entropy, current_entropy, "
        "ref_log_prob, reward."
    )


def test_a_field_that_this_host_has_not(install):
    install(theirs=needing("ref_log_prob"))
    remedies = {"ref_log_prob": "Set use_reference=true."}
    assert refused({"methods": ["theirs"]}, fields=frozenset({"reward", "entropy"}), remedies=remedies) == (
        "entropo.methods=[theirs]: Their method needs the reference policy's log-probs (ref_log_prob), which this run "
        "does not have. Set use_reference=true. It has: entropy, reward."
    )


def test_a_coefficient_that_follows_the_entropy_needs_the_entropy(install):
    adapting = {"size": Coefficient("size", "additive", 1.0, 0.0, 2.0)}
    install(theirs=type("Theirs", (Theirs,), {"coefficients": lambda self: adapting}))
    said = refused({"methods": ["theirs"]}, fields=frozenset({"reward"}))
    assert "needs pi_old's entropy at every token (entropy), which this run does not have." in said


def test_a_setting_that_nothing_reads(install):
    install(theirs=Theirs)
    assert refused({"theirs": {"size": 0.5}}) == (
        "entropo.theirs.size=0.5: nothing that runs reads it. It is read by theirs: add entropo.methods=[theirs], or "
        "delete it."
    )
    assert refused({"methods": ["theirs"], "adapo": {"clip_low": 0.1}}) == (
        "entropo.adapo.clip_low=0.1: nothing that runs reads it. It is read by adapo: add +entropo=adapo, or delete it."
    )


UNREAD = [
    (
        {"methods": ["adapo"], "adapo": {"clip_high": {"delta": 0.5}}},
        "entropo.adapo.clip_high.delta=0.5: Only entropo.adapo.clip_high.law=additive reads it, and here that is "
        "multiplicative. Change that, or delete entropo.adapo.clip_high.delta.",
    ),
    (
        {"methods": ["repo_r"], "repo": {"zeta": {"law": "fixed", "high": 0.3}}},
        "entropo.repo.zeta.high=0.3: Only entropo.repo.zeta.law=doubling | matched | pi reads it, and here that is "
        "fixed. Change that, or delete entropo.repo.zeta.high.",
    ),
    (
        {"methods": ["repo_r"], "repo": {"zeta": {"law": "matched"}, "logp": "old"}},
        "entropo.repo.logp=old: entropo.repo.zeta.law=matched takes pi_old's centred log-prob, so that nothing reads "
        "it. Change that, or delete entropo.repo.logp.",
    ),
    (
        {"methods": ["stare"], "stare": {"negative_weight": 0.5}},
        "entropo.stare.negative_weight=0.5: It is read while entropo.stare.two_sided is true. Change that, or delete "
        "entropo.stare.negative_weight.",
    ),
    (
        {"methods": ["clip_cov"], "clip_cov": {"clip_low": 0.2}},
        "entropo.clip_cov.clip_low=0.2: It is the clip of Clip-Cov's own policy loss, and this run has another. Change "
        "that, or delete entropo.clip_cov.clip_low.",
    ),
    (
        {"methods": ["repo_r"], "target": {"value": 1.0}},
        "entropo.target.value=1.0: Only entropo.target.kind=value reads it, and here that is auto. Change that, or "
        "delete entropo.target.value.",
    ),
    (
        {"methods": ["repo_r"], "target": {"schedule": "linear"}},
        "entropo.target.schedule=linear: the target starts and ends at the initial entropy. Set "
        "entropo.target.fraction, start or value too, or delete entropo.target.schedule.",
    ),
]


@pytest.mark.parametrize(("node", "words"), UNREAD)
def test_a_setting_that_its_method_leaves_unread(node, words):
    assert refused(node) == words


def test_a_condition_on_no_setting_is_a_fault_of_the_class(install, caplog):
    item = ("size", float, key(1.0, "size", low=0.0, high=2.0, when="lwa=pi"))
    install(theirs=type("Theirs", (Theirs,), {"settings_type": make_dataclass("Odd", [item])}))
    registry.known()
    assert "entropo.theirs.size is read when 'lwa', and there is no such setting beside it" in caplog.text


def test_a_method_that_was_chosen_and_declined_does_not_run():
    names = [method.name for method in run({"methods": ["adapo", "repo_r"], "chosen": {"repo_r": False}})]
    assert names == ["adapo"]
    assert refused({"methods": ["repo_r"], "chosen": {"repo_r": False}}, estimator="repo_r") == (
        "entropo.chosen.repo_r=false, but algorithm.adv_estimator=repo_r asks for REPO-R. Set algorithm.adv_estimator "
        "to another value, or delete entropo.chosen.repo_r."
    )
    assert refused({"chosen": {"repo_rr": False}}).startswith("entropo.chosen.repo_rr: no method is called 'repo_rr'.")


def test_a_method_is_named_by_the_setting_that_asked_for_it():
    law = {"entropy_coeff": {"law": "additive"}}
    assert refused(law, fields=frozenset({"entropy"})).startswith("entropo.entropy_coeff.law=additive: entropy bonus")
    said = refused(law | {"chosen": {"entropy_bonus": False}})
    assert said.startswith("entropo.chosen.entropy_bonus=false, but entropo.entropy_coeff.law=additive asks for")


def test_an_explicit_law_is_kept():
    for law, wanted in ((None, "additive"), ("fixed", "fixed"), ("pi", "pi")):
        (bonus,) = run({"methods": ["entropy_bonus"], "entropy_coeff": {"law": law, "initial": 0.01}})
        assert bonus.coefficients()["entropy_coeff"].law == wanted


def test_the_start_up_line_follows_the_order_in_which_the_methods_act():
    node = {"methods": ["top_entropy", "repo_r", "kl_cov", "stare"], "target": {"kind": "initial"}}
    words = in_words(run(node), parse(node), Host(estimator="grpo"))
    assert words.startswith(
        "entropo: STARE on grpo advantages; REPO-R on grpo advantages; gradient on the 0.2 of the tokens with most "
        "entropy; KL-Cov's penalty on 0.002 of the tokens; policy loss vanilla; "
    )


def test_a_schedule_is_said_by_its_ends():
    node = {"methods": ["kl_cov"], "kl_cov": {"anneal": {"kind": "cosine", "end": 0.1}}}
    words = in_words(run(node), parse(node), Host(estimator="grpo"))
    assert words.endswith("ratio 0.002; beta from 1 to 0.1, cosine over 1000 steps")


# The only places that know a method's name; __init__.py offers functions, of which some are called as their method.
METHODS = ("methods", "objectives", "demo", "recipes", "__init__.py")
NAMES = {name for method in registry.known().values() for name in (method.name, method.loss_mode) if name}
PACKAGE = Path(entropo_plugin.__file__).parent
# losses of verl's own that have a method's name
VERLS = {("hosts/verl/metrics/step.py", "kl_cov")}
VERLS |= {("hosts/verl/startup/combinations.py", name) for name in ("clip_cov", "kl_cov")}
VERLS |= {("hosts/verl/worker/clip_shares.py", "clip_cov"), ("hosts/verl/startup/facts.py", "kl_cov")}
OTHERS = [path for path in sorted(PACKAGE.rglob("*.py")) if path.relative_to(PACKAGE).parts[0] not in METHODS]


def words(path):
    """(line, word) for every identifier and every word of a text in the code; docstrings and comments are left out."""
    tree = ast.parse(path.read_text())
    said = {id(each.value) for each in ast.walk(tree) if isinstance(each, ast.Expr)}
    for node in ast.walk(tree):
        texts = [value for value in vars(node).values() if isinstance(value, str)] if id(node) not in said else []
        for word in re.findall(r"\w+", " ".join(texts)):
            yield getattr(node, "lineno", 0), word


@pytest.mark.parametrize("path", OTHERS, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_other_module_knows_a_methods_name(path):
    own = str(path.relative_to(PACKAGE))
    assert [(line, word) for line, word in words(path) if word in NAMES and (own, word) not in VERLS] == []


KEY = r"(?<![\w/.])entropo(?:\.[a-z_0-9]+)+"
KEYS = {name for name, *_ in describe()} | {"entropo.host"}
# The worked example of docs/extending.md, which a package of the reader's brings
KEYS |= {f"entropo.mine.{name}" for name in ("initial", "high", "delta")}
SOURCES = [
    *sorted(PACKAGE.rglob("*.py")),
    *sorted(folder().rglob("*.yaml")),
    *sorted(ROOT.glob("*.md")),
    *(page for page in sorted(ROOT.glob("docs/**/*.md")) if "_build" not in page.parts),
]


def test_every_key_that_is_recommended_anywhere_exists():
    """In messages, recipes and pages; a group of keys counts as one."""
    unknown = {}
    for path in SOURCES:
        for name in set(re.findall(KEY, path.read_text())):
            if path.name != "CHANGELOG.md" and not any(each == name or each.startswith(f"{name}.") for each in KEYS):
                unknown.setdefault(path.name, []).append(name)
    assert unknown == {}
