#include "experiments/inputs/generators.h"

#include <fmt/core.h>

#include <algorithm>

#include "core/error.h"
#include "core/memory.h"
#include "core/parallel.h"

namespace hyperattn {
namespace {

constexpr double kMaxRows = 2147483647;
constexpr double kMaxDim = 256;
constexpr double kMaxHeads = 65536;
constexpr int64_t kRowsPerTask = 256;

ParameterSpec extent(const char* name, const char* meaning, double most) {
  return integer_parameter(name, meaning).between(1, most);
}

}  // namespace

std::vector<ParameterSpec> shape_parameters(std::vector<ParameterSpec> more) {
  std::vector<ParameterSpec> specs = {
      extent("seq_len", "query rows", kMaxRows),
      extent("key_len", "key rows; default seq_len", kMaxRows).or_absent(),
      extent("head_dim", "columns of Q and K", kMaxDim).by_default(64),
      extent("value_dim", "columns of V; default head_dim", kMaxDim).or_absent(),
      extent("heads", "heads of each sequence", kMaxHeads).by_default(1),
      extent("kv_heads",
             "heads of K and V, each shared by heads/kv_heads heads of Q (grouped queries); default heads",
             kMaxHeads)
          .or_absent(),
      extent("batch", "sequences", kMaxHeads).by_default(1),
  };
  specs.insert(specs.end(), std::make_move_iterator(more.begin()), std::make_move_iterator(more.end()));
  return specs;
}

InputShapes generated_shapes(const Parameters& parameters) {
  const int64_t batch = parameters.integer("batch");
  const int64_t heads = parameters.integer("heads");
  const int64_t queries = parameters.integer("seq_len");
  const int64_t keys = parameters.has("key_len") ? parameters.integer("key_len") : queries;
  const int64_t dim = parameters.integer("head_dim");
  const int64_t value_dim = parameters.has("value_dim") ? parameters.integer("value_dim") : dim;
  const int64_t key_heads = parameters.has("kv_heads") ? parameters.integer("kv_heads") : heads;
  if (heads % key_heads != 0)
    fail_usage(fmt::format("heads must be a multiple of kv_heads, but heads is {} and kv_heads {}", heads,
                           key_heads));
  const InputShapes shapes{
      {batch, heads, queries, dim}, {batch, key_heads, keys, dim}, {batch, key_heads, keys, value_dim}};
  for (const TensorShape& shape : {shapes.query, shapes.key, shapes.value})
    if (!is_countable(shape))
      fail_usage(
          fmt::format("batch, heads, rows and dimension make a tensor of shape {}, but it may have at most "
                      "2^53 elements and 2^31 - 1 heads in all",
                      to_string(shape)));
  return shapes;
}

AttentionInputs normal_inputs(const InputShapes& shapes, const Draw& draw) {
  const double entries = static_cast<double>(shapes.query.size()) + static_cast<double>(shapes.key.size()) +
                         static_cast<double>(shapes.value.size());
  require_memory(entries * sizeof(float), "the inputs q, k and v");
  AttentionInputs inputs{Tensor<float>(shapes.query), Tensor<float>(shapes.key), Tensor<float>(shapes.value)};
  fill_normal(inputs.query, draw, Purpose::query);
  fill_normal(inputs.key, draw, Purpose::key);
  fill_normal(inputs.value, draw, Purpose::value);
  return inputs;
}

void for_each_row(const TensorShape& shape, const std::function<void(int64_t head, int64_t row)>& body) {
  const int64_t tasks_per_head = (shape.rows + kRowsPerTask - 1) / kRowsPerTask;
  parallel_for(shape.matrices() * tasks_per_head, [&](int64_t task, int) {
    const int64_t head = task / tasks_per_head;
    const int64_t begin = task % tasks_per_head * kRowsPerTask;
    const int64_t end = std::min(shape.rows, begin + kRowsPerTask);
    for (int64_t row = begin; row < end; ++row) body(head, row);
  });
}

void fill_normal(Tensor<float>& tensor, const Draw& draw, Purpose purpose) {
  const int64_t dim = tensor.shape().dim;
  for_each_row(tensor.shape(), [&](int64_t head, int64_t row) {
    const RandomStream stream = draw.stream(purpose, head);
    float* values = tensor.matrix(head).row(row);
    for (int64_t column = 0; column < dim; ++column)
      values[column] = static_cast<float>(stream.normal(static_cast<uint64_t>(row * dim + column)));
  });
}

}  // namespace hyperattn
