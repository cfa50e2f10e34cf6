"""Patched models of transformers; run by scripts/test_transformers.sh, which has transformers."""

import unittest

import torch
import transformers
from cases import FIXED_PLAN

import hyperattn
import hyperattn.torch
from hyperattn.transformers import patch, unpatch

COMMON = {
    "vocab_size": 128, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4,
    "max_position_embeddings": 512, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
GROUPED = {**COMMON, "num_key_value_heads": 2}
ARCHITECTURES = {
    "Llama": GROUPED,
    "Qwen3": {**GROUPED, "head_dim": 16},
    "Mistral": {**GROUPED, "sliding_window": None},
    "Gemma": {**GROUPED, "head_dim": 16},
    "Phi": GROUPED,
    "GPTNeoX": COMMON,
    "Glm": {**GROUPED, "head_dim": 16},
}
# Small problems are approximate with these.
SETTINGS = {"block_size": 8, "sample_size": 4, "bucket_count": 4, "min_seq_len": 16}
METHODS = {
    "hyper": SETTINGS,
    "tree": {"levels": [16, 4], "beams": [2, 2], "min_seq_len": 16},
    "coreset": {"coreset_size": 6, "min_seq_len": 16},
    "thinned": {"streaming": True, "stream_block": 16, "cache_size": 32},
}


def model_of(name, attention="sdpa", **changes):
    config = getattr(transformers, f"{name}Config")(**{**ARCHITECTURES.get(name, GROUPED), **changes})
    torch.manual_seed(1)
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation=attention)
    for parameter in model.parameters():  # scores that are not all alike
        torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


def words(rows=2, length=97, seed=5):
    return torch.randint(3, 128, (rows, length), generator=torch.Generator().manual_seed(seed))


def logits(model, ids, **options):
    with torch.no_grad():
        return model(input_ids=ids, **options).logits


class Exact(unittest.TestCase):
    """method="exact" gives the model's own logits: to 1e-4 of the largest one."""

    def assert_close(self, seen, expected):
        self.assertLess((seen - expected).abs().max().item(), 1e-4 * expected.abs().max().item())

    def test_every_architecture(self):
        for name in ARCHITECTURES:
            for attention in ("sdpa", "eager"):
                with self.subTest(name, attention=attention):
                    model = model_of(name, attention)
                    own = logits(model, words())
                    self.assertEqual(patch(model, "exact"), [0, 1, 2])
                    self.assert_close(logits(model, words()), own)

    def test_prefill_in_pieces_and_decoding(self):
        for name in ARCHITECTURES:
            with self.subTest(name):
                model, ids = model_of(name), words()
                own = logits(model, ids)
                patch(model, "exact")
                cache, seen = transformers.DynamicCache(config=model.config), []
                for begin, end in ((0, 40), (40, 90), (90, 91), (91, 97)):
                    with torch.no_grad():
                        step = model(input_ids=ids[:, begin:end], past_key_values=cache, use_cache=True)
                    seen.append(step.logits)
                self.assert_close(torch.cat(seen, dim=1), own)

    def test_generation(self):
        for cache in (None, "static"):
            with self.subTest(cache=cache):
                model, ids = model_of("Llama"), words(1, 60)
                options = {"max_new_tokens": 8, "do_sample": False, "cache_implementation": cache, "disable_compile": True}
                own = model.generate(ids, **options)
                patch(model, "exact")
                self.assertTrue(torch.equal(model.generate(ids, **options), own))

    def test_sliding_windows(self):
        model = model_of("Mistral", sliding_window=20)
        own = logits(model, words())
        patch(model, "exact")
        self.assert_close(logits(model, words()), own)

    def test_gradients(self):
        model, ids = model_of("Llama"), words()
        model(input_ids=ids, labels=ids).loss.backward()
        own = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
        model.zero_grad()
        patch(model, "exact")
        model(input_ids=ids, labels=ids).loss.backward()
        for name, parameter in model.named_parameters():
            self.assertLess((parameter.grad - own[name]).abs().max().item(), 1e-4 * own[name].abs().max().item(), name)


class Approximate(unittest.TestCase):
    def test_layers_and_unpatch(self):
        model, ids = model_of("Llama"), words()
        own = logits(model, ids)
        seen = {}
        for layers, chosen in (("last:1", [2]), ("first:2", [0, 1]), ([1], [1]), ("all", [0, 1, 2])):
            self.assertEqual(patch(model, "hyper", layers, **SETTINGS), chosen)
            seen[str(layers)] = logits(model, ids)
            self.assertEqual(unpatch(model), chosen)
            self.assertTrue(torch.equal(logits(model, ids), own))
        self.assertEqual(unpatch(model), [])
        different = [own, *seen.values()]
        for i, one in enumerate(different):
            for other in different[:i]:
                self.assertFalse(torch.equal(one, other))

    def test_a_layer_computes_what_the_call_does(self):
        """Against the layer's own projections, with the layer's trial."""
        for method, settings in METHODS.items():
            with self.subTest(method):
                taken = self.taken_from_layer(1, method, seed=3, **settings)
                given = [taken[name].numpy() for name in "qkv"]
                result = hyperattn.attention(*given, method, causal=True, seed=3, trial=1, scale=taken["scale"], **settings)
                expected = torch.from_numpy(result.out.copy()).transpose(1, 2).reshape(2, 97, 64)
                self.assertTrue(torch.equal(taken["out"], expected))

    def taken_from_layer(self, index, method, **options):
        """What the patched layer is given, and gives."""
        from transformers import AttentionInterface

        model = model_of("Llama")
        taken = {}
        layer = model.model.layers[index].self_attn
        layer.o_proj.register_forward_pre_hook(lambda _, given: taken.update(out=given[0]))
        patch(model, method, [index], **options)
        attend = AttentionInterface()["hyperattn"]

        def spy(module, query, key, value, *rest, **options):
            taken.update(q=query, k=key, v=value, scale=options["scaling"])
            return attend(module, query, key, value, *rest, **options)

        AttentionInterface.register("hyperattn", spy)
        try:
            logits(model, words())
        finally:
            AttentionInterface.register("hyperattn", attend)
        return taken

    def test_decoding_is_exact(self):
        """Of one approximate cache, the next token's logits are those of the model's own step."""
        model, ids = model_of("Llama"), words()
        steps = []
        for replaced in (True, False):
            patch(model, "hyper", **SETTINGS)
            cache = transformers.DynamicCache(config=model.config)
            with torch.no_grad():
                model(input_ids=ids[:, :96], past_key_values=cache)
                if not replaced:
                    unpatch(model)
                steps.append(model(input_ids=ids[:, 96:], past_key_values=cache).logits)
            unpatch(model)
        self.assertTrue(torch.equal(*steps))

    def test_training(self):
        model, ids = model_of("Llama"), words()
        patch(model, "hyper", "last:2", **FIXED_PLAN, min_seq_len=16)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.02)
        losses = []
        for _ in range(4):
            optimizer.zero_grad()
            loss = model(input_ids=ids, labels=ids).loss
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        self.assertLess(losses[-1], losses[0])

    def test_half_precision(self):
        model = model_of("Llama").to(torch.bfloat16)
        own = logits(model, words())
        patch(model, "exact")
        seen = logits(model, words())
        self.assertEqual(seen.dtype, torch.bfloat16)
        self.assertLess((seen - own).abs().max().item(), 0.05 * own.abs().max().item())


class Refusals(unittest.TestCase):
    def refused(self, expected):
        return self.assertRaisesRegex(hyperattn.UsageError, expected)

    def test_padding(self):
        for attention in ("sdpa", "eager"):
            for side in ("left", "right"):
                model, ids = model_of("Llama", attention), words()
                mask = torch.ones_like(ids)
                mask[1, : 10 if side == "left" else None][-10 if side == "right" else 0 :] = 0
                patch(model, "hyper", "last:1", **SETTINGS)
                with self.subTest(attention=attention, side=side):
                    with self.refused(r"layer 2 \(LlamaAttention\): method 'hyper' cannot honour a padding mask"):
                        logits(model, ids, attention_mask=mask)
                    logits(model, ids, attention_mask=torch.ones_like(ids))

    def test_packed_sequences(self):
        model, ids = model_of("Llama"), words()
        patch(model, "hyper", **SETTINGS)
        positions = torch.cat([torch.arange(50), torch.arange(47)])[None].expand(2, -1)
        with self.refused("layer 0 .* a mask other than a causal one, such as that of packed sequences"):
            logits(model, ids, position_ids=positions, use_cache=False)

    def test_sliding_windows(self):
        model = model_of("Mistral", sliding_window=20)
        patch(model, "hyper", [1], **SETTINGS)
        with self.refused(r"layer 1 \(MistralAttention\): method 'hyper'.* window"):
            logits(model, words())
        logits(model, words(2, 19), use_cache=False)  # shorter than the window

    def test_soft_caps(self):
        model = model_of("Gemma2", "eager", head_dim=16, query_pre_attn_scalar=16)
        patch(model, "exact", [0])
        with self.refused(r"layer 0 \(Gemma2Attention\): method 'exact' cannot honour a soft cap of scores"):
            logits(model, words())

    def test_dropout(self):
        model = model_of("Llama", attention_dropout=0.1)
        patch(model, "exact")
        model.train()
        with self.refused("layer 0 .* dropout of 0.1"):
            model(input_ids=words())

    def test_patching(self):
        model = model_of("Llama")
        with self.refused("did you mean 'sample_size'"):
            patch(model, "hyper", sampel_size=3)
        with self.refused("no method 'hypr'"):
            patch(model, "hypr")
        for layers in ("last:9", "last:", "some", [7], [], 3):
            with self.refused("layers must be 'all', 'first:N', 'last:N' or a list of indices, of the layers 0 to 2"):
                patch(model, "hyper", layers)
        with self.refused("no layer of Linear calls transformers' attention interface"):
            patch(torch.nn.Linear(2, 2))
        patch(model, "hyper", [1])
        with self.refused(r"layer 1 \(LlamaAttention\) is replaced already"):
            patch(model, "hyper")
        self.assertEqual(unpatch(model), [1])
        with self.refused("has the attention 'flex_attention'; load the model with"):
            patch(model_of("Llama", "flex_attention"))

    def test_the_method_s_own_refusals_name_the_layer(self):
        model = model_of("Llama")
        patch(model, "hyper", [2], block_size=8, sample_size=4, bucket_count=4, min_seq_len=16)
        model.model.layers[2].self_attn.v_proj.weight.data.fill_(float("nan"))
        with self.assertRaisesRegex(hyperattn.InputError, r"layer 2 \(LlamaAttention\): v holds a non-finite value"):
            logits(model, words())


if __name__ == "__main__":
    unittest.main()
