// What the generating sources share: the parameters of a shape, and tensors of random rows.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "core/parameters.h"
#include "core/random.h"
#include "core/tensor.h"
#include "experiments/inputs/input_source.h"

namespace hyperattn {

/// seq_len, key_len, head_dim, value_dim, heads, kv_heads, batch; then `more`.
[[nodiscard]] std::vector<ParameterSpec> shape_parameters(std::vector<ParameterSpec> more = {});

/// The shapes that those parameters ask for (key_len defaults to seq_len, value_dim to head_dim, kv_heads to
/// heads). Error(usage) where heads is no multiple of kv_heads, and for more elements than can be counted.
[[nodiscard]] InputShapes generated_shapes(const Parameters& parameters);

/// Random numbers of one draw: a stream for each purpose and flat head.
struct Draw {
  uint64_t seed = 0;
  uint32_t trial = 0;

  [[nodiscard]] RandomStream stream(Purpose purpose, int64_t head) const {
    return {seed, purpose, trial, static_cast<uint32_t>(head)};
  }
};

/// Independent standard normal Q, K and V of these shapes (streams query, key and value), after checking that
/// together they fit into memory.
[[nodiscard]] AttentionInputs normal_inputs(const InputShapes& shapes, const Draw& draw);

/// Calls body(head, row) for every row of every matrix of the shape, in parallel, in blocks of rows.
void for_each_row(const TensorShape& shape, const std::function<void(int64_t head, int64_t row)>& body);

/// Fills the tensor with independent standard normal numbers; entry i of a head is number i of its stream.
void fill_normal(Tensor<float>& tensor, const Draw& draw, Purpose purpose);

}  // namespace hyperattn
