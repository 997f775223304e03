"""A tiny random network of every causal, masked, vision and composite type of transformers, with all kinds of layers.

Sizes shrink by the names of the fields of a configuration; what a type needs beyond that stands in OVERRIDES. Every
weight is perturbed, so that a factor that is 1 or 0 by default still shows.
"""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import torch
import transformers
from transformers.models.auto import modeling_auto
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from ctrlattn.provenance import provenance

LAYERS, WIDTH, HEADS, WORDS = 4, 64, 4, 128
_SIZES: dict[int, str] = {
    WIDTH: "hidden_size d_model n_embd dim emb_dim embed_dim embedding_dim word_embed_proj_dim embedding_size width "
    "hidden_size_global d_latents max_position_embeddings n_positions n_ctx max_seq_len max_sequence_length "
    "context_length original_max_position_embeddings max_target_positions mamba_d_ssm out_hidden_size text_hidden_size "
    "adapter_in_dim adapter_input_size",
    96: "intermediate_size ffn_dim decoder_ffn_dim encoder_ffn_dim n_inner dff dim_ff ffn_hidden_size d_inner "
    "hidden_dim feed_forward_size shared_intermediate_size dense_intermediate_size intermediate_size_mlp block_ff_dim "
    "attn_intermediate",
    32: "moe_intermediate_size shared_expert_intermediate_size shared_experts_intermediate_size expert_ffn_hidden_size "
    "moe_shared_expert_intermediate_size expert_hidden_size moe_ffn_hidden_size rel_extent image_size",
    24: "q_lora_rank",
    16: "head_dim swa_head_dim kv_channels dim_head attention_head_size d_head global_head_dim query_pre_attn_scalar "
    "v_head_dim qk_nope_head_dim d_kv swa_v_head_dim kv_lora_rank index_head_dim o_lora_rank mamba_d_state state_size "
    "ssm_state_size d_state linear_key_head_dim linear_value_head_dim linear_head_dim mamba_head_dim mamba_d_head",
    8: "num_latents qk_rope_head_dim index_topk index_topk_blocks mamba_n_heads mamba_num_heads sliding_window "
    "attention_window_size window_size local_attention sliding_window_size keep_window_size attention_chunk_size "
    "laurel_rank adapter_rank gated_norm_rank hidden_size_per_layer_input loop_gate_rank router_hidden_size hc_lowrank "
    "patch_size chunk_size mamba_chunk_size rotary_dim block_size index_block_size",
    4: "num_hidden_layers n_layer n_layers num_layers decoder_layers num_decoder_layers max_window_layers depth "
    "num_attention_heads n_head n_heads num_heads decoder_attention_heads encoder_attention_heads attention_heads "
    "num_encoder_attention_heads num_decoder_attention_heads swa_num_attention_heads num_experts n_routed_experts "
    "num_local_experts moe_num_experts zero_expert_num linear_num_key_heads linear_num_value_heads linear_num_heads",
    2: "encoder_layers num_encoder_layers num_key_value_heads num_kv_heads swa_num_key_value_heads "
    "num_global_key_value_heads encoder_num_key_value_heads index_n_heads num_experts_per_tok moe_topk moe_k moe_top_k",
    1: "n_group topk_group first_k_dense_replace num_dense_layers moe_layer_start_index num_nextn_predict_layers",
    WORDS: "vocab_size vocab_size_per_layer_input entity_vocab_size unpadded_vocab_size codebook_size",
}  # fmt: skip
SIZE_OF = {name: size for size, names in _SIZES.items() for name in names.split()}
_DEPTHS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "decoder_layers")
_HEAD_COUNTS = ("num_key_value_heads", "num_attention_heads")
_IDS = {
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1, "cls_token_id": 3,
    "sep_token_id": 4, "mask_token_id": 5,
}  # fmt: skip
_ROPE = {"rope_type": "default", "rope_theta": 10000.0}
# Time, height and width share the pairs of a head; the code of these types says how, and no field of theirs.
_THREE = {
    kind: {"rope_parameters": {**_ROPE, "mrope_section": [2, 3, 3]}}
    for kind in (
        "qwen2_vl_text", "qwen2_5_vl_text", "qwen2_5_omni_text", "paddleocr_vl_text", "glm4v_text", "glm_ocr_text",
    )
}  # fmt: skip
_TWO_KINDS = ["sliding_attention", "full_attention"]
_ZAMBA = {
    "num_hidden_layers": 8,
    "layers_block_type": ["linear_attention", "linear_attention", "hybrid", "linear_attention"] * 2,
}
_EXPERTS = {"n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 1, "topk_group": 1, "n_shared_experts": 1}
_INKLING = {"layer_types": ["hybrid_sliding", "hybrid"] * 2, "num_hidden_layers": 4, "n_layers_per_attn_res_block": 2}
OVERRIDES: dict[str, dict[str, Any]] = {
    **_THREE,
    "glm4v_moe_text": {"rope_parameters": {**_ROPE, "partial_rotary_factor": 0.5, "mrope_section": [2, 1, 1]}},
    "step3p5": {"sliding_window": 8},
    "deepseek_v2": {**_EXPERTS, "topk_method": "greedy"},
    "dots1": _EXPERTS,
    "dbrx": {
        "rope_parameters": _ROPE, "attn_config": {"kv_n_heads": 2, "clip_qkv": 8.0, "rope_theta": 10000.0},
        "ffn_config": {"ffn_hidden_size": 32, "moe_num_experts": 4, "moe_top_k": 2},
    },
    "gemma3n_text": {
        "layer_types": _TWO_KINDS * 2, "num_kv_shared_layers": 2, "intermediate_size": 96,
        "num_hidden_layers": 4, "activation_sparsity_pattern": [0.0] * 4,
    },
    "gemma4_text": {
        "layer_types": _TWO_KINDS * 2, "num_kv_shared_layers": 2, "num_hidden_layers": 4, "global_head_dim": 16,
        "head_dim": 16,
    },
    "cohere_compass_text": {"rope_parameters": {"full_attention": _ROPE}},
    "gpt_neo": {"attention_types": [[["global", "local"], 2]], "attention_layers": ["global", "local"] * 2},
    "glm5_next_text": {"index_kpool": 8},
    "hunyuan_v1_dense": {"head_dim": 16, "num_key_value_heads": 2},
    "hunyuan_v1_moe": {"head_dim": 16, "num_experts": 4, "moe_topk": 2},
    "ministral": {"head_dim": 16, "num_key_value_heads": 2},
    "nemotron": {"head_dim": 16, "num_key_value_heads": 2},
    "lfm2": {"layer_types": ["conv", "full_attention"] * 2},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 2},
    "longcat_flash": {"head_dim": 8, "num_layers": 2},
    "mamba2": {"num_heads": 8, "head_dim": 16, "n_groups": 2},
    "qwen4_exp_text": {
        "eos_token_id": 2, "indexer_n_heads": 2, "indexer_kv_heads": 1, "indexer_head_dim": 16, "indexer_budget": 8,
        "indexer_compress_ratio": 2, "ngram_vocab_size_base": 101, "split_ngram_parts": 1,
        "make_ngram_vocab_size_divisible_by": 8, "ple_layer_ids": [1], "hc_lowrank": 8,
    },
    "reformer": {
        "axial_pos_shape": (4, 16), "axial_pos_embds_dim": (16, 48), "attn_layers": ["local", "lsh"] * 2,
        "num_buckets": 4, "local_attn_chunk_length": 4, "lsh_attn_chunk_length": 4,
    },
    "zamba": _ZAMBA,
    "zamba2": _ZAMBA,
    "esm": {"vocab_size": WORDS, "pad_token_id": 0, "mask_token_id": 5, "emb_layer_norm_before": False},
    "esmc": {"vocab_size": WORDS},
    "jamba": {
        "attn_layer_period": 2, "attn_layer_offset": 1, "expert_layer_period": 2, "expert_layer_offset": 1,
        "num_experts": 4, "num_experts_per_tok": 2,
    },
    "inkling2_loop_text": {
        **_INKLING, "num_hidden_layers": 6, "layer_types": ["hybrid_sliding", "hybrid"] * 3,
        "loop_layer_index_start": 2, "loop_layer_index_end": 4,
    },
    "inkling2_text": _INKLING,
    "dory": {"num_hidden_layers": 6, "n_input_layers": 2, "n_output_layers": 2, "layer_types": _TWO_KINDS * 3},
    "gemma4_assistant": {"hidden_size_per_layer_input": 0},
    "perceiver": {"num_self_attends_per_block": 2, "num_self_attention_heads": 4, "num_cross_attention_heads": 4},
}  # fmt: skip
_CLASSIFIERS = [
    "ViT",
    "DeiT",
    "Beit",
    "Dinov2",
    "Dinov2WithRegisters",
    "IJepa",
    "ViTMSN",
    "Data2VecVision",
    "MetaClip2",
    "CLIP",
    "Siglip",
    "ImageGPT",
    "Hiera",
    "TimmWrapper",
    "Swin",
]
_VISION_TYPES = [
    "vit",
    "deit",
    "beit",
    "dinov2",
    "dinov2_with_registers",
    "ijepa",
    "vit_msn",
    "data2vec-vision",
    "metaclip_2",
    "clip",
    "siglip",
    "imagegpt",
    "hiera",
    "timm_wrapper",
    "swin",
]
VISION = {
    **{kind: f"{name}ForImageClassification" for kind, name in zip(_VISION_TYPES, _CLASSIFIERS, strict=True)},
    "clip_vision_model": "CLIPVisionModel", "siglip_vision_model": "SiglipVisionModel",
    "siglip2_vision_model": "Siglip2VisionModel", "vit_mae": "ViTMAEModel", "dinov3_vit": "DINOv3ViTModel",
}  # fmt: skip
_COMPUTES_IN_FLOAT32 = {"inkling2", "inkling2_loop", "inkling2_loop_text", "inkling2_text", "mra", "xglm"}


def cases() -> Iterator[tuple[str, str, str]]:
    """(task, type, class) of every network."""
    for kind, name in modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.items():
        yield "causal", kind, name
    for kind, name in modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES.items():
        yield "masked", kind, name
    for kind, name in VISION.items():
        yield "vision", kind, name
    composite = modeling_auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
    for kind, name in {**composite, **modeling_auto.MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES}.items():
        yield "composite", kind, name


def network(task: str, kind: str, name: str) -> Any:
    """The network, in float64 where the type runs in it, and in evaluation mode."""
    cls = getattr(transformers, name)
    config = _config(task, kind, cls)
    config._attn_implementation = "eager"
    torch.manual_seed(0)
    model = cls(config).to(torch.float32 if kind in _COMPUTES_IN_FLOAT32 else torch.float64).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.is_floating_point():
                weight.add_(0.05 * torch.randn(weight.shape, generator=generator).to(weight))
    return model


def inputs(task: str, kind: str, model: Any) -> dict[str, Any]:
    """Arguments of the network: twelve tokens, or an image."""
    generator = torch.Generator().manual_seed(2)
    if getattr(model, "main_input_name", "input_ids") == "pixel_values":
        return _image(kind, model, generator)
    if kind == "xmod":
        model.set_default_language("en_XX")
    shape = (1, 64) if kind == "reformer" else (4, 12) if kind.startswith("musicgen") else (1, 12)
    ids = torch.randint(6, 90, shape, generator=generator)
    if kind == "perceiver" and task == "masked":
        return {"inputs": ids}
    return {"input_ids": ids} if kind == "reformer" else {"input_ids": ids, "use_cache": False}


def _image(kind: str, model: Any, generator: torch.Generator) -> dict[str, Any]:
    config = getattr(model.config, "vision_config", model.config)
    dtype = next(model.parameters()).dtype

    def noise(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)

    if kind.startswith("siglip2"):
        patches = {
            "pixel_attention_mask": torch.ones(1, 16, dtype=torch.long),
            "spatial_shapes": torch.tensor([[4, 4]]),
        }
        return {"pixel_values": noise(1, 16, 3 * config.patch_size**2), **patches}
    size = getattr(config, "image_size", 32)
    size = size if isinstance(size, int) else size[0]
    return {"pixel_values": noise(1, getattr(config, "num_channels", 3), size, size)}


def _config(task: str, kind: str, cls: Any) -> Any:
    """A small configuration of the class: its own, or the part of a composite one."""
    kind = "qwen4_exp_text" if cls.__name__.startswith("Qwen4Exp") else kind
    config = _small(CONFIG_MAPPING.get(kind, cls.config_class))
    if not isinstance(config, cls.config_class):
        parts = (getattr(config, name, None) for name in ("text_config", "decoder", "vision_config"))
        config = next((part for part in parts if isinstance(part, cls.config_class)), config)
    config._experts_implementation = "eager"
    if task == "causal" and getattr(config, "is_decoder", None) is False:
        config.is_decoder = True
    return config


def _small(cls: Any) -> Any:
    options = _shrunk(cls)
    if "kv_lora_rank" in options and "num_key_value_heads" in options:
        options["num_key_value_heads"] = HEADS
    nested = {**(getattr(cls, "sub_configs_defaults", None) or {}), **(getattr(cls, "sub_configs", None) or {})}
    usual = vars(cls()) if transformers.AutoConfig in nested.values() else {}
    for name, part in nested.items():
        config_class = part if isinstance(part, type) else CONFIG_MAPPING.get(getattr(part, "model_type", None), None)
        if config_class is transformers.AutoConfig:  # any may stand there: the one that does by default
            config_class = type(usual[name]) if isinstance(usual.get(name), transformers.PretrainedConfig) else None
        if config_class is not None:
            options[name] = _small(config_class)
    return cls(**{**options, **OVERRIDES.get(cls.model_type, {})})


def _shrunk(cls: Any) -> dict[str, Any]:
    """The fields that have another value in a small configuration."""
    usual = cls()
    depth = next((value for name in _DEPTHS if isinstance(value := getattr(usual, name, None), int)), None)
    options: dict[str, Any] = {}
    for field in dataclasses.fields(cls) if dataclasses.is_dataclass(cls) else ():
        value = field.default_factory() if callable(field.default_factory) else field.default
        value = None if value is dataclasses.MISSING else value
        usual_value = vars(usual).get(field.name, value)  # asked for it, a configuration with values per layer raises
        if isinstance(value, bool | str):
            continue
        small = SIZE_OF.get(field.name)
        if small is not None and isinstance(value, int):
            options[field.name] = small if value > small or field.name in _HEAD_COUNTS else value
        elif field.name.endswith(("_token_id", "_index")) and isinstance(value, int) and value >= WORDS:
            options[field.name] = _IDS.get(field.name, 100 + len(options) % 20)
        elif (
            isinstance(usual_value, dict) and "mrope_section" in usual_value
        ):  # time, height and width share the pairs of a head
            pairs = (
                int(
                    options.get("qk_rope_head_dim", SIZE_OF["head_dim"]) * usual_value.get("partial_rotary_factor", 1.0)
                )
                // 2
            )
            options[field.name] = {**usual_value, "mrope_section": [pairs - 2 * (pairs // 3), pairs // 3, pairs // 3]}
        elif field.name == "eos_token_id" and isinstance(value, list | tuple):
            options[field.name] = 2
        elif isinstance(usual_value, list | tuple) and depth and len(usual_value) == depth > LAYERS:
            by_kind = value is None and len(set(map(str, usual_value))) > 1 and "layer" in field.name
            if value is not None or by_kind:
                options[field.name] = type(usual_value)(_shortened(list(usual_value)))
    return options


def _shortened(values: list[Any]) -> list[Any]:
    """The first run of LAYERS values that has every kind in it, or one value of each kind."""
    kinds = list(dict.fromkeys(map(str, values)))
    for start in range(len(values) - LAYERS + 1):
        run = values[start : start + LAYERS]
        if set(map(str, run)) == set(kinds) or len(kinds) > LAYERS:
            return run
    first = [next(value for value in values if str(value) == kind) for kind in kinds]
    return (first + values)[:LAYERS]


class DoesNotRun(Exception):
    """A type of which transformers makes no network that runs here, with the first sentence of what it says."""


def running(task: str, kind: str, name: str) -> tuple[Any, dict[str, Any]]:
    """(network, inputs) of a type, which run together."""
    try:
        model = network(task, kind, name)
        batch = inputs(task, kind, model)
        with torch.no_grad():
            model(**batch)
    except Exception as error:  # whatever transformers raises
        raise DoesNotRun(" ".join(str(error).split()).split(". ")[0][:200]) from error
    return model, batch


def row_of(task: str, kind: str, name: str, outcome: Callable[[Any, dict[str, Any]], dict[str, Any]]) -> dict[str, Any]:
    """A row of a census: `outcome` of the network and its inputs, or why the type does not run."""
    head = {"task": task, "type": kind}
    try:
        model, batch = running(task, kind, name)
    except DoesNotRun as error:
        return {**head, "outcome": "does not run", "reason": str(error)}
    return {**head, **outcome(model, batch)}


def begun(judge: Callable[[str, str, str], dict[str, Any]]) -> tuple[dict[str, Any], list[tuple[str, str, str]]]:
    """The record of a census and all its cases, once what every process of it needs is loaded."""
    torch.set_num_threads(1)  # a pool of threads does not survive a fork
    run = provenance()  # at the start: a commit that is made while it runs is not what was measured
    judge("causal", "llama", "LlamaForCausalLM")  # what is loaded now, every process has
    return run, list(cases())
