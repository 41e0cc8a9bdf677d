"""How verl finds us, in fresh processes: what is registered, what it costs nothing to leave alone, what is said."""

import subprocess
import sys

import pytest


def python(code, **variables):
    """Run code in a new process outside the checkout; returns stdout and stderr together."""
    import os

    environment = {k: v for k, v in os.environ.items() if not k.startswith(("ENTROPO", "VERL_"))} | variables
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd="/")
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_import_verl_registers_lazily_and_only_once():
    said = python(
        "import sys, verl\n"
        "assert 'verl.trainer.ppo.core_algos' not in sys.modules\n"
        "assert 'entropo_plugin.hosts.verl.driver.trainer' not in sys.modules and 'hydra' not in sys.modules\n"
        "import entropo_plugin.plugin as p\n"
        "p.register(); p.register()\n"
        "from verl.trainer.ppo.core_algos import ADV_ESTIMATOR_REGISTRY as A\n"
        "from verl.trainer.ppo.v1 import get_trainer_cls as get\n"
        "p.register(); p.register()\n"
        "print(A['repo_r'].__module__, A['repo_d'].__module__)\n"
        "for m in ('sync', 'colocate_async', 'separate_async'): print(get('entropo_' + m).__mro__[1:3])\n"
        "from entropo_plugin.hosts.verl.startup.import_hooks import failures; assert not failures, failures\n"
    )
    assert "entropo_plugin.hosts.verl.driver.estimators entropo_plugin.hosts.verl.driver.estimators" in said
    for base in ("PPOTrainerSync", "PPOTrainerColocateAsync", "PPOTrainerSeparateAsync"):
        assert base in said
    assert "entropo_plugin:" not in said


def test_no_shim_acts_unless_asked():
    code = (
        "import importlib.metadata as m, os, torch.distributed.fsdp as f\n"
        "before = (m.version, f.CPUOffloadPolicy)\n"
        "import verl, verl.utils.distributed as d, verl.utils.model as model\n"
        "from verl.plugin.platform import PlatformRegistry\n"
        "from entropo_plugin.hosts.verl import cpu, compat\n"
        "shims = [m.version is not before[0], f.CPUOffloadPolicy is not before[1],\n"
        "  'entropo' in d.initialize_global_process_group_ray.__code__.co_filename,\n"
        "  'entropo' in model.load_valuehead_model.__code__.co_filename,\n"
        "  'entropo' in getattr(PlatformRegistry.get('cpu'), '__module__', ''), 'VERL_ENGINE_DEVICE' in os.environ,\n"
        "  cpu.active()]\n"
        "asked, lacking = 'ENTROPO_CPU' in os.environ, not compat.cpu_platform()\n"
        "print('right:', shims == [asked] + [asked and lacking] * 5 + [asked])\n"
    )
    assert "right: True" in python(code)
    assert "right: True" in python(code, ENTROPO_CPU="1")


def test_the_shims_step_aside_for_a_cpu_platform_of_verls_own():
    code = (
        "import verl.plugin.platform as p\n"
        "class Theirs: pass\n"
        "p.PlatformRegistry._platforms['cpu'] = Theirs\n"
        "import os, torch.distributed.fsdp as f; before = f.CPUOffloadPolicy\n"
        "import entropo_plugin.hosts.verl.cpu as cpu; cpu.activate()\n"
        "print(p.PlatformRegistry.get('cpu') is Theirs, f.CPUOffloadPolicy is before, os.environ['VERL_PLATFORM'])\n"
    )
    assert "True True cpu" in python(code)


def test_the_vllm_plugin_acts_only_in_verls_own_servers():
    code = (
        "import sys; from entropo_plugin.hosts.verl.cpu.vllm_plugin import register; "
        "register(); print('vllm' in sys.modules)"
    )
    assert "False" in python(code)
    assert "False" in python(code, ENTROPO_CPU="1")
    assert "False" in python(code, VERL_REPLICA_RANK="0")


def test_a_failure_to_register_is_said_at_warning_and_refused_at_start_up():
    said = python(
        "import entropo_plugin.hosts.verl.driver.estimators as e\n"
        "import entropo_plugin.hosts.verl.startup.import_hooks as h\n"
        "def broken(core): raise RuntimeError('no luck')\n"
        "e.register_estimators = broken\n"
        "import verl.trainer.ppo.core_algos\n"
        "from entropo_plugin.hosts.verl.startup.guard import check_start\n"
        "from entropo_plugin.hosts.verl.startup.doctor import compose\n"
        "try: check_start(compose('ppo_trainer', ['+entropo=repo_r']))\n"
        "except ValueError as error: print('refused:', error)\n"
    )
    assert "WARNING" in said and "RuntimeError: no luck" in said and "Run `entropo doctor`" in said
    assert "refused: entropo_plugin did not register completely" in said


def test_hydra_finds_us_without_importing_torch():
    said = python(
        "import sys\n"
        "from hydra.core.plugins import Plugins\n"
        "from hydra.plugins.search_path_plugin import SearchPathPlugin\n"
        "print([c.__name__ for c in Plugins.instance().discover(SearchPathPlugin)], 'torch' in sys.modules)\n"
    )
    assert "EntropoSearchPath" in said and "False" in said


def test_hydras_help_lists_each_group_of_recipes_once():
    said = python(
        "import os, sys\n"
        "sys.argv = ['main_ppo', '--help']\n"
        "os.environ['ENTROPO_CPU'] = '1'\n"
        "import runpy; runpy.run_module('verl.trainer.main_ppo', run_name='__main__')\n"
    )
    listed = [
        line.partition(":")[0]
        for line in said.partition("== Config ==")[0].splitlines()
        if "qwen" in line or "tiny" in line
    ]
    assert listed == ["recipes/32b", "recipes/7b", "recipes/8b", "recipes/cpu"]
    assert "\nentropo: adapo, " in said


@pytest.mark.parametrize("policy", ["none", "something_else"])
def test_verls_own_switch_leaves_us_out(policy):
    said = python("import sys, verl; print('entropo_plugin.plugin' in sys.modules)", VERL_USE_EXTERNAL_PLUGINS=policy)
    assert "False" in said
