"""``rollout.name=hf``: transformers behind verl's rollout-server interface, for quick tests without vLLM.

It samples where the training worker trains, on its GPU or on the CPU, a server a worker; verl has no such server.
Sampling supports temperature only; top_k and top_p are refused.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from typing import Any

import ray
import torch
from verl.plugin.platform import get_platform
from verl.utils.config import omega_conf_to_dataclass
from verl.utils.device import get_device_name, get_resource_name, get_visible_devices_keyword
from verl.workers.config import HFModelConfig
from verl.workers.rollout.base import BaseRollout
from verl.workers.rollout.replica import RolloutReplica, TokenOutput

GATHER_SECONDS = 0.01


@dataclass(eq=False)
class Request:
    """One prompt that waits to be answered."""

    prompt: list[int]
    temperature: float
    limit: int
    answer: asyncio.Future

    @classmethod
    def make(cls, prompt: list[int], params: dict[str, Any], room: int) -> Request:
        if params.get("top_k", -1) not in (-1, 0, None) or params.get("top_p", 1.0) not in (1, None):
            raise ValueError(
                f"rollout.name=hf samples by temperature only, got top_k={params.get('top_k')}, "
                f"top_p={params.get('top_p')}. Set top_k=-1 and top_p=1, or rollout.name=vllm."
            )
        limit = min(params.get("max_tokens") or room, room)
        return cls(prompt, params.get("temperature", 1.0), limit, asyncio.get_running_loop().create_future())


@torch.inference_mode()
def sample(model: Any, batch: list[Request], eos: int, pad: int, generator: torch.Generator) -> list[TokenOutput]:
    """Answer a batch of requests of one temperature, left-padded, until every one has ended.

    The model is on the generator's device.
    """
    ids, mask = (each.to(generator.device) for each in _left_pad([request.prompt for request in batch], pad))
    position, past = (mask.cumsum(-1) - 1).clamp(min=0), None
    chances: list[list[float]] = [[] for _ in batch]
    outputs = [TokenOutput(token_ids=[], stop_reason="completed") for _ in batch]
    done = [request.limit <= 0 for request in batch]
    while not all(done):
        step = model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=position,
            past_key_values=past,
            use_cache=True,
            logits_to_keep=1,
        )
        past = step.past_key_values
        tokens, logps = _draw(step.logits[:, -1].float(), batch[0].temperature, generator)
        for i, (token, logp) in enumerate(zip(tokens.tolist(), logps.tolist(), strict=True)):
            if not done[i]:
                outputs[i].token_ids.append(token)
                chances[i].append(logp)
                done[i] = token == eos or len(outputs[i].token_ids) >= batch[i].limit
        ids, position = tokens[:, None], position[:, -1:] + 1
        mask = torch.cat([mask, torch.ones_like(ids)], -1)
    for output, chance in zip(outputs, chances, strict=True):
        output.log_probs = chance
    return outputs


def _left_pad(prompts: list[list[int]], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    width = max(len(prompt) for prompt in prompts)
    ids = torch.tensor([[pad] * (width - len(p)) + p for p in prompts])
    return ids, torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])


def _draw(logits: torch.Tensor, temperature: float, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    logps = torch.log_softmax(logits / (temperature or 1.0), -1)
    if temperature == 0:
        tokens = logps.argmax(-1)
    else:
        tokens = torch.multinomial(logps.exp(), 1, generator=generator)[:, 0]
    return tokens, logps.gather(1, tokens[:, None])[:, 0]


async def _nothing(*args: Any, **kwargs: Any) -> None:
    return None


class TransformersServer:
    """A Ray actor that answers, together, the requests that wait when the model is free."""

    def __init__(self, config: Any, model_config: Any, replica_rank: int, devices: str | None = None):
        if devices is not None:
            os.environ[get_visible_devices_keyword()] = devices
        self.device = torch.device(get_device_name())
        self.config = omega_conf_to_dataclass(config)
        self.model_config = omega_conf_to_dataclass(model_config, dataclass_type=HFModelConfig)
        self.generator = torch.Generator(self.device).manual_seed(self.config.seed + replica_rank)
        self.version: int | None = None
        self.waiting: list[Request] = []
        self.drain: asyncio.Task | None = None

    async def launch_server(self) -> None:
        from transformers import AutoModelForCausalLM

        path = self.model_config.local_path
        model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, attn_implementation="sdpa")
        self.model = model.to(self.device).eval()

    async def load_weights(self, weights: dict[str, torch.Tensor], version: int | None) -> None:
        result = self.model.load_state_dict(weights, strict=False)
        if result.unexpected_keys:
            raise RuntimeError(f"weights that the rollout model does not have: {result.unexpected_keys}")
        self.version = version

    async def generate(
        self, prompt_ids: Any, sampling_params: dict[str, Any], request_id: str, **_: Any
    ) -> TokenOutput:
        room = self.config.prompt_length + self.config.response_length - len(prompt_ids)
        request = Request.make(list(prompt_ids), sampling_params, room)
        self.waiting.append(request)
        if self.drain is None:
            self.drain = asyncio.create_task(self._answer_all())
        return await request.answer

    async def _answer_all(self) -> None:
        await asyncio.sleep(GATHER_SECONDS)
        while self.waiting:
            temperature = self.waiting[0].temperature
            batch = [r for r in self.waiting if r.temperature == temperature][: self.config.max_num_seqs]
            self.waiting = [r for r in self.waiting if r not in batch]
            await self._answer(batch)
        self.drain = None

    async def _answer(self, batch: list[Request]) -> None:
        tokenizer = self.model_config.tokenizer
        try:
            outputs = await asyncio.to_thread(
                sample, self.model, batch, tokenizer.eos_token_id, tokenizer.pad_token_id, self.generator
            )
        except Exception as error:
            for request in batch:
                request.answer.set_exception(error)
            return
        for request, output in zip(batch, outputs, strict=True):
            output.extra_fields = {"global_steps": self.version}
            request.answer.set_result(output)

    sleep = wake_up = clear_kv_cache = release_kv_cache = resume_kv_cache = _nothing
    start_profile = stop_profile = abort_all_requests = resume_generation = _nothing


class TransformersReplica(RolloutReplica):
    """One server per replica, on the node and the accelerator of its training worker."""

    async def launch_servers(self) -> None:
        node, devices = await self.workers[0].__ray_call__.remote(_place)
        strategy = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(node, soft=False)
        name = f"hf_server_{self.replica_rank}"
        options = {"name": name, "max_concurrency": self.max_concurrency, "scheduling_strategy": strategy}
        if devices is not None:
            options["runtime_env"] = {"env_vars": dict.fromkeys(get_platform().ray_noset_envvars(), "1")}
        server = ray.remote(TransformersServer).options(**options)
        self.servers = [server.remote(self.config, self.model_config, self.replica_rank, devices)]
        await self.servers[0].launch_server.remote()
        self._server_handle, self._server_address = self.servers[0], name


def _place(_: Any) -> tuple[str, str | None]:
    """The node of the training worker that calls this, and its accelerator; None on the CPU."""
    context = ray.get_runtime_context()
    if get_device_name() == "cpu":
        return context.get_node_id(), None
    return context.get_node_id(), context.get_accelerator_ids()[get_resource_name()][0]


class TransformersAdapter(BaseRollout):
    """The training worker's side: hands the weights over after every step."""

    def __init__(self, config: Any, model_config: Any, device_mesh: Any, replica_rank: int = -1):
        super().__init__(config, model_config, device_mesh)
        self.rank = torch.distributed.get_rank() if replica_rank == -1 else replica_rank

    async def resume(self, tags: Any) -> None:
        return None

    async def release(self) -> None:
        return None

    async def update_weights(self, weights: Any, wire_format: str = "named_tensors", **about: Any) -> None:
        # every rank consumes the generator: each weight is gathered from all of them
        # and copied to memory that the server's process can read
        state = {name: tensor.detach().to("cpu", copy=True) for name, tensor in weights}
        await ray.get_actor(f"hf_server_{self.rank}").load_weights.remote(state, about.get("global_steps"))
