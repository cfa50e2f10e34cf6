"""PyTorch's tensors: the same bits as NumPy's arrays, gradients through autograd, and what is refused."""

import threading
import unittest

import numpy as np
from cases import FIXED_PLAN, SMALL, arrays

import hyperattn

try:
    import torch

    import hyperattn.torch
except ImportError:
    torch = None


def tensors(*shapes, requires_grad=False, **options):
    return [torch.from_numpy(array).requires_grad_(requires_grad) for array in arrays(*shapes, **options)]


SHAPES = (2, 4, 61, 8), (2, 2, 83, 8), (2, 2, 83, 5)


@unittest.skipIf(torch is None, "PyTorch is not installed")
class TorchTest(unittest.TestCase):
    def assert_same(self, tensor, array):
        np.testing.assert_array_equal(tensor.detach().numpy(), array)


class Bits(TorchTest):
    def test_those_of_numpy(self):
        for causal in (False, True):
            given = tensors(*SHAPES, requires_grad=True)
            out, lse = hyperattn.torch.attention(*given, causal=causal, seed=3, return_lse=True, **SMALL)
            result = hyperattn.attention(*arrays(*SHAPES), causal=causal, seed=3, **SMALL)
            self.assert_same(out, result.out)
            self.assert_same(lse, result.lse)
            self.assertFalse(lse.requires_grad)
            dout = tensors((2, 4, 61, 5), seed=2)[0]
            out.backward(dout)
            for tensor, gradient in zip(given, result.backward(dout.numpy())):
                self.assert_same(tensor.grad, gradient)

    def test_fewer_axes(self):
        for shapes in (((61, 8), (83, 8), (83, 5)), ((3, 61, 8), (3, 83, 8), (3, 83, 5))):
            given = tensors(*shapes, requires_grad=True)
            out = hyperattn.torch.attention(*given, **SMALL)
            self.assert_same(out, hyperattn.attention(*arrays(*shapes), **SMALL).out)
            out.sum().backward()
            self.assertEqual([tensor.grad.shape for tensor in given], [tensor.shape for tensor in given])

    def test_strides(self):
        """As models lay them out: (batch, rows, heads, dim) seen as (batch, heads, rows, dim)."""
        given = [tensor.transpose(1, 2) for tensor in tensors((2, 61, 4, 8), (2, 61, 4, 8), (2, 61, 4, 8))]
        out = hyperattn.torch.attention(*given, **SMALL)
        self.assert_same(out, hyperattn.attention(*(tensor.numpy() for tensor in given), **SMALL).out)

    def test_other_types_come_back_as_they_came(self):
        for dtype in (torch.float16, torch.bfloat16, torch.float64):
            given = [tensor.to(dtype).requires_grad_() for tensor in tensors(*SHAPES)]
            floats = [tensor.detach().float().requires_grad_() for tensor in given]
            out, expected = (hyperattn.torch.attention(*each, **SMALL) for each in (given, floats))
            self.assertEqual(out.dtype, dtype)
            self.assertTrue(torch.equal(out, expected.to(dtype)))
            dout = torch.ones_like(out)
            out.backward(dout)
            expected.backward(dout.float())
            for tensor, right in zip(given, floats):
                self.assertEqual(tensor.grad.dtype, dtype)
                self.assertTrue(torch.equal(tensor.grad, right.grad.to(dtype)))


class Autograd(TorchTest):
    def test_finite_differences_of_the_reference(self):
        """The gradient of engine cpu along random directions: out is rounded to float32, so that a step of 1e-2 leaves
        some 1e-4 of the gradient's length; 2e-3 is asked for."""
        step, dout = 1e-2, tensors((2, 4, 61, 5), seed=2)[0]
        for method, settings in (("exact", {}), ("hyper", FIXED_PLAN)):
            given = tensors(*SHAPES, requires_grad=True)
            hyperattn.torch.attention(*given, method=method, causal=True, **settings).backward(dout)
            for place, direction in enumerate(tensors(*SHAPES, seed=3)):
                moved = []
                for sign in (1, -1):
                    there = [tensor.detach() for tensor in given]
                    there[place] = there[place] + sign * step * direction
                    out = hyperattn.torch.attention(*there, method=method, causal=True, engine="reference", **settings)
                    moved.append((out.double() * dout).sum().item())
                along = given[place].grad.double() * direction
                expected = (moved[0] - moved[1]) / (2 * step)
                self.assertLess(abs(along.sum().item() - expected), 2e-3 * along.norm().item(), (method, place))

    def test_part_of_a_larger_graph(self):
        """Against PyTorch's own attention, with a shared parameter before and a loss behind."""
        class Layer(torch.nn.Module):
            def __init__(self, attend):
                super().__init__()
                self.projection = torch.nn.Linear(16, 48)
                self.attend = attend

            def forward(self, x):
                q, k, v = self.projection(x).reshape(2, 37, 3, 2, 8).permute(2, 0, 3, 1, 4)
                return self.attend(q, k, v).transpose(1, 2).reshape(2, 37, 16)

        def plain(q, k, v):
            return torch.softmax(q @ k.transpose(-1, -2) / 8**0.5, dim=-1) @ v

        torch.manual_seed(0)
        ours = Layer(lambda q, k, v: hyperattn.torch.attention(q, k, v, method="exact"))
        theirs = Layer(plain)
        theirs.load_state_dict(ours.state_dict())
        x = torch.randn(2, 37, 16)
        for layer in (ours, theirs):
            layer(x).pow(2).mean().backward()
        torch.testing.assert_close(ours(x), theirs(x), atol=3e-6, rtol=1e-5)
        torch.testing.assert_close(ours.projection.weight.grad, theirs.projection.weight.grad, atol=1e-7, rtol=1e-4)
        before = ours(x).pow(2).mean().item()
        torch.optim.SGD(ours.parameters(), lr=0.5).step()
        self.assertLess(ours(x).pow(2).mean().item(), before)

    def test_without_gradients(self):
        given = tensors(*SHAPES, requires_grad=True)
        with torch.no_grad():
            out = hyperattn.torch.attention(*given, method="dense")
        self.assertFalse(out.requires_grad)
        with torch.inference_mode():
            hyperattn.torch.attention(*given, **SMALL)
        with self.assertRaisesRegex(hyperattn.UsageError, "'dense' has no .* but a tensor requires one"):
            hyperattn.torch.attention(*given, method="dense")

    def test_only_some_require_a_gradient(self):
        q, k, v = tensors(*SHAPES)
        v.requires_grad_()
        hyperattn.torch.attention(q, k, v, **SMALL).sum().backward()
        self.assertIsNone(q.grad)
        result = hyperattn.attention(*arrays(*SHAPES), **SMALL)
        self.assert_same(v.grad, result.backward(np.ones_like(result.out)).dv)

    def test_what_the_gradient_reads_must_not_change(self):
        for change in ("q", "out"):
            q, k, v = tensors(*SHAPES)
            v.requires_grad_()
            out = hyperattn.torch.attention(q, k, v, **SMALL)
            total = out.sum()
            (q if change == "q" else out).detach().add_(1)
            with self.assertRaisesRegex(RuntimeError, "modified by an inplace operation"):
                total.backward()

    def test_gradients_of_gradients_are_refused(self):
        given = tensors(*SHAPES, requires_grad=True)
        out = hyperattn.torch.attention(*given, **SMALL)
        gradient = torch.autograd.grad(out.pow(2).sum(), given[0], create_graph=True)[0]
        with self.assertRaisesRegex(RuntimeError, "once_differentiable"):
            gradient.sum().backward()

    def test_two_threads(self):
        failures = []
        result = hyperattn.attention(*arrays(*SHAPES), **SMALL)
        expected = result.backward(np.ones_like(result.out))

        def work():
            for _ in range(20):
                given = tensors(*SHAPES, requires_grad=True)
                hyperattn.torch.attention(*given, **SMALL).sum().backward()
                if not all(np.array_equal(tensor.grad.numpy(), right) for tensor, right in zip(given, expected)):
                    failures.append(1)

        threads = [threading.Thread(target=work) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(failures, [])


class Refusals(TorchTest):
    def test_what_are_no_floats_on_the_cpu(self):
        q, k, v = tensors((64, 16), (64, 16), (64, 16))
        for wrong, words in (
            (v.numpy(), "v must be a torch.Tensor, but is a ndarray"),
            (v.long(), "v must hold .* but holds int64"),
            (v.to_sparse(), "v must be a dense tensor, but has the layout torch.sparse_coo"),
            (v.to("meta"), "v is on meta, but must be on the CPU or a CUDA device"),
            (v[None], r"same number of axes, but q has the shape \(64, 16\) and v \(1, 64, 16\)"),
            (torch.full((64, 16), float("nan")), "v holds a non-finite value"),
            (torch.full((64, 16), 1e39, dtype=torch.float64), "v holds a value beyond the range of float32"),
        ):
            with self.subTest(words), self.assertRaisesRegex(hyperattn.InputError, words):
                hyperattn.torch.attention(q, k, wrong, sample_size=8)
        with self.assertRaisesRegex(hyperattn.UsageError, "did you mean 'sample_size'"):
            hyperattn.torch.attention(q, k, v, sampel_size=8)

    def test_numpy_s_function_names_the_other(self):
        q, k, v = tensors((64, 16), (64, 16), (64, 16))
        with self.assertRaisesRegex(hyperattn.InputError, "q is a torch.Tensor, for which there is hyperattn.torch.attention"):
            hyperattn.attention(q, k, v)


@unittest.skipUnless(torch is not None and torch.cuda.is_available() and hyperattn.engines().loc["cuda", "available"],
                     "needs a CUDA device, and PyTorch and this package built for it")
class Cuda(TorchTest):
    """Tensors that stay on the card, against the same call on the CPU's tensors, which are uploaded."""

    TYPES = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"} if torch else {}
    # Rows that are padded and rows that are not, grouped queries, and tiles for the card's own kernel.
    SHAPES = SHAPES, ((1, 4, 300, 64), (1, 2, 500, 64), (1, 2, 500, 64)), ((2, 150, 32), (2, 150, 32), (2, 150, 48))

    def compare(self, shapes, dtype, **options):
        there, here = ([tensor.to(device, dtype).requires_grad_() for tensor in tensors(*shapes)] for device in ("cuda", "cpu"))
        call = dict(engine="cuda", return_lse=True, **{"precision": self.TYPES[dtype], **SMALL, **options})
        (out, lse), (expected, expected_lse) = (hyperattn.torch.attention(*each, **call) for each in (there, here))
        self.assertEqual((out.device.type, out.dtype, lse.dtype), ("cuda", dtype, torch.float32))
        self.assertTrue(torch.equal(out.cpu(), expected), f"{shapes} {dtype} {options}")
        self.assertTrue(torch.equal(lse.cpu(), expected_lse))
        out.square().sum().backward()
        expected.square().sum().backward()
        for a, b in zip(there, here):
            self.assertEqual((a.grad.device.type, a.grad.dtype), ("cuda", dtype))
            # ⟨g, out⟩ is that of `out` as it is returned, rounded to its type.
            differs = (a.grad.cpu().float() - b.grad.float()).norm() / b.grad.float().norm()
            self.assertLess(differs, 1e-5 if dtype == torch.float32 else 1e-2, f"{shapes} {dtype} {options}")

    def test_the_bits_of_the_same_call_on_the_cpu_s_tensors(self):
        for shapes in self.SHAPES:
            for dtype in self.TYPES:
                for options in ({}, {"causal": True, "min_seq_len": 32}, {"hash_rounds": 2}):
                    self.compare(shapes, dtype, **options)

    def test_methods_that_plan_on_the_host(self):
        for options in ({"residual": "centroids"}, {"prescore": "leverage", "prescore_keys": 100}, {"buckets": "kmeans"}):
            self.compare(self.SHAPES[1], torch.float32, **options)

    def test_the_type_of_the_tensors_is_the_precision(self):
        given = [tensor.cuda().half() for tensor in tensors(*self.SHAPES[1])]
        out = hyperattn.torch.attention(*given, engine="cuda", **SMALL)
        self.assertTrue(torch.equal(out, hyperattn.torch.attention(*given, engine="cuda", precision="fp16", **SMALL)))
        double = hyperattn.torch.attention(*(tensor.double() for tensor in given), engine="cuda", **SMALL)
        single = hyperattn.torch.attention(*(tensor.float() for tensor in given), engine="cuda", **SMALL)
        self.assertTrue(torch.equal(double.float(), single))

    def test_strides_and_addresses(self):
        plain = [tensor.cuda() for tensor in tensors(*self.SHAPES[1])]
        out = hyperattn.torch.attention(*plain, engine="cuda", **SMALL)
        moved = [torch.cat([tensor.new_zeros(1), tensor.flatten()])[1:].view(tensor.shape) for tensor in plain]
        turned = [tensor.transpose(1, 2).contiguous().transpose(1, 2) for tensor in plain]
        for given in (moved, turned):
            self.assertTrue(torch.equal(hyperattn.torch.attention(*given, engine="cuda", **SMALL), out))

    def test_the_order_of_the_current_stream(self):
        given = [tensor.cuda() for tensor in tensors(*self.SHAPES[1])]
        expected = hyperattn.torch.attention(*(tensor + 1 for tensor in given), engine="cuda", **SMALL)
        torch.cuda.synchronize()
        with torch.cuda.stream(torch.cuda.Stream()):
            torch.cuda._sleep(200_000_000)  # a tenth of a second, in which the tensors are still the old ones
            for tensor in given:
                tensor.add_(1)
            out = hyperattn.torch.attention(*given, engine="cuda", **SMALL)
            self.assertTrue(torch.equal(out, expected))

    def test_a_tensor_with_a_nan_is_named(self):
        given = [tensor.cuda() for tensor in tensors(*self.SHAPES[1])]
        for place, name in enumerate("qkv"):
            broken = [tensor.clone() for tensor in given]
            broken[place][0, 0, 3, 5] = float("nan")
            with self.assertRaisesRegex(hyperattn.InputError, f"{name} holds a NaN or infinity"):
                hyperattn.torch.attention(*broken, engine="cuda", **SMALL)

    def test_without_waiting(self):
        there, here = ([tensor.cuda().requires_grad_() for tensor in tensors(*self.SHAPES[1])] for _ in range(2))
        for causal in ({}, {"causal": True, "min_seq_len": 32}):
            out, expected = (
                hyperattn.torch.attention(*each, engine="cuda", wait=wait, **SMALL, **causal)
                for each, wait in ((there, False), (here, True))
            )
            self.assertTrue(torch.equal(out, expected))
            gradients = (torch.autograd.grad(one.square().sum(), each) for one, each in ((out, there), (expected, here)))
            for a, b in zip(*gradients):
                self.assertTrue(torch.equal(a, b))
        broken = [tensor.detach().clone() for tensor in there]
        broken[2][0, 0, 3, 5] = float("nan")
        out = hyperattn.torch.attention(*broken, engine="cuda", wait=False, **SMALL)
        self.assertTrue(out.isnan().any() and not out.isnan().all())

    def test_what_goes_through_the_host(self):
        given = tensors(*self.SHAPES[1])
        call = dict(engine="cuda", precision="fp32", estimator="theory", **SMALL)
        out = hyperattn.torch.attention(*(tensor.cuda() for tensor in given), **call)
        self.assertTrue(torch.equal(out.cpu(), hyperattn.torch.attention(*given, **call)))

    def test_near_the_engine_of_the_cpu(self):
        given = tensors(*SHAPES)
        seen = hyperattn.torch.attention(*(tensor.cuda() for tensor in given), engine="cuda", precision="fp32", **SMALL).cpu()
        torch.testing.assert_close(seen, hyperattn.torch.attention(*given, **SMALL), atol=1e-4, rtol=1e-4)

    def test_other_engines_and_mixed_devices_are_refused(self):
        q, k, v = (tensor.cuda() for tensor in tensors(*SHAPES))
        with self.assertRaisesRegex(hyperattn.InputError, "q is on cuda:0, but engine 'cpu' computes on the CPU"):
            hyperattn.torch.attention(q, k, v, **SMALL)
        with self.assertRaisesRegex(hyperattn.InputError, "q is on cuda:0 and v on cpu"):
            hyperattn.torch.attention(q, k, v.cpu(), engine="cuda", **SMALL)


@unittest.skipUnless(hasattr(getattr(torch, "library", None), "custom_op"), "needs PyTorch 2.4")
class Compiled(TorchTest):
    def test_one_operator_in_one_graph(self):
        def layer(q, k, v, wait):
            return hyperattn.torch.attention(q * 2, k, v, causal=True, seed=3, wait=wait, **SMALL).sin()

        compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
        for wait in (True, False):
            ours, theirs = (tensors(*SHAPES, requires_grad=True) for _ in range(2))
            out, expected = compiled(*ours, wait), layer(*theirs, True)
            self.assertTrue(torch.equal(out, expected))
            out.sum().backward()
            expected.sum().backward()
            for a, b in zip(ours, theirs):
                self.assertTrue(torch.equal(a.grad, b.grad))

    def test_operator(self):
        call = repr(("hyper", True, 3, None, None, 0, 0, SMALL))
        for wait in ((), (False,)):
            given = (*tensors(*SHAPES, requires_grad=True), call, *wait)
            torch.library.opcheck(torch.ops.hyperattn.attention.default, given)


if __name__ == "__main__":
    unittest.main()
