#include <cmath>
#include <fstream>

#include "experiments/attend/replay_file.h"
#include "experiments/files/hdf5_file.h"
#include "experiments/inputs/input_source.h"
#include "tests/fuzz/hdf5_maker.h"
#include "tests/fuzz/promises.h"
#include "tests/fuzz/scratch_file.h"
#include "tests/fuzz/targets.h"

namespace hyperattn::fuzz {
namespace {

std::string made_file(Choices& choices) {
  Hdf5Maker file;
  const hsize_t rows = 4 + choices.below(3);
  const Expected tensor{{1, 2, rows, 3}};
  for (const char* name : {"/inputs/q", "/inputs/k", "/inputs/v"}) file.dataset(name, tensor, choices);
  file.dataset("/replay/projections", {{3, 2}}, choices);
  file.dataset("/replay/samples_rows_" + std::to_string(rows), {{1, 2, 1, 2}, true}, choices);
  for (const char* name : {"block_size", "sample_size", "num_projections", "causal", "scale", "bucket_order"})
    if (choices.rarely(4)) file.attribute("/", name, choices);
  if (choices.rarely(8)) file.link("/inputs", choices);
  if (choices.rarely(8)) file.link("/replay", choices);
  return file.image();
}

void check(const AttentionInputs& inputs, const InputShapes& shapes) {
  promise(inputs.query.shape() == shapes.query, "q has the shape that was promised");
  promise(inputs.key.shape() == shapes.key, "k has the shape that was promised");
  promise(inputs.value.shape() == shapes.value, "v has the shape that was promised");
  for (const Tensor<float>* tensor : {&inputs.query, &inputs.key, &inputs.value})
    for (int64_t i = 0; i < tensor->shape().size(); ++i)
      promise(std::isfinite(tensor->data()[i]), "a tensor that was accepted is finite");
}

void read_as_source(const std::string& path, Choices& choices) {
  const InputSource& source = *find_input_source("file");
  Parameters parameters;
  parameters.set("path", path);
  if (choices.rarely(2)) parameters.set("seq_len", int64_t{1} + choices.byte());
  if (choices.rarely(2)) parameters.set("query_rows", IntegerList{choices.byte(), choices.byte()});
  if (choices.rarely(2)) parameters.set("key_rows", IntegerList{choices.byte(), choices.byte()});
  reads_or_refuses([&] {
    const InputShapes shapes = source.shapes(parameters);
    check(source.make(parameters, 0, 0), shapes);
  });
}

void read_as_replay(const std::string& path, Choices& choices) {
  Parameters parameters;
  parameters.set("bucket_count", int64_t{4});
  parameters.set("sample_size", static_cast<int64_t>(2 - choices.below(3)));
  const bool causal = choices.rarely(2);
  reads_or_refuses([&] {
    const Hdf5File file = Hdf5File::open(path);
    reads_or_refuses([&] { static_cast<void>(replay_parameters(file)); });
    const TensorShape q = file.read_shape4("/inputs/q");
    const TensorShape k = file.read_shape4("/inputs/k");
    const Replay replay = read_replay(file, q, k, causal, parameters);
    for (const auto& [rows, samples] : replay.samples)
      for (const int32_t row : samples.rows) promise(row >= 0 && row < k.rows, "a sampled key is there");
  });
}

}  // namespace

void run_tensors(const std::string& bytes) {
  Choices choices(bytes);
  const ScratchFile file(made_file(choices));
  read_as_source(file.path(), choices);
  read_as_replay(file.path(), choices);
}

}  // namespace hyperattn::fuzz
