// Queries, keys and values from an HDF5 file: captured from a model, say.
#include <fmt/core.h>

#include <algorithm>
#include <limits>

#include "algorithms/problem.h"
#include "core/error.h"
#include "experiments/files/hdf5_file.h"
#include "experiments/inputs/described_source.h"

namespace hyperattn {
namespace {

/// Half-open.
struct RowRange {
  int64_t begin = 0;
  int64_t end = 0;
};

constexpr double kMaxRow = std::numeric_limits<int32_t>::max();

ParameterSpec range(const char* name, const char* meaning) {
  return integer_list_parameter(name, meaning).between(0, kMaxRow).or_absent();
}

/// The rows of a tensor with `rows` rows that the parameters ask for.
RowRange wanted_rows(const Parameters& parameters, const std::string& key, int64_t rows,
                     const std::string& place) {
  RowRange range{0, rows};
  if (parameters.has(key)) {
    const ParameterValue given = parameters.integers(key);
    const IntegerList& list = parameters.integers(key);
    if (list.size() != 2 || list[0] < 0 || list[0] >= list[1])
      fail_usage(fmt::format("{} must be [begin, end] with begin < end, but is {}", key, to_string(given)));
    if (list[1] > rows)
      fail_usage(fmt::format("{} is {}, but {} has {} rows", key, to_string(given), place, rows));
    range = {list[0], list[1]};
  }
  if (parameters.has("seq_len")) {
    const int64_t count = parameters.integer("seq_len");
    if (count > range.end - range.begin)
      fail_usage(fmt::format("seq_len is {}, but {} has {} rows{}", count, place, range.end - range.begin,
                             parameters.has(key) ? " in " + key : std::string()));
    range.end = range.begin + count;
  }
  return range;
}

TensorShape cut(TensorShape shape, RowRange range) {
  shape.rows = range.end - range.begin;
  return shape;
}

/// The parts of the three datasets that a run uses; only headers are read.
struct Selection {
  Hdf5File file;
  RowRange queries;
  RowRange keys;
  InputShapes shapes;
};

Selection select(const Parameters& parameters) {
  Hdf5File file = Hdf5File::open(parameters.text("path"));
  const std::string in_file = fmt::format(" of '{}'", file.path());
  const TensorShape q = file.read_shape4("/inputs/q");
  const TensorShape k = file.read_shape4("/inputs/k");
  const TensorShape v = file.read_shape4("/inputs/v");
  if (k.rows != v.rows)
    fail_input(fmt::format("/inputs/k and /inputs/v{} must have the same number of rows, but have {} and {}",
                           in_file, to_string(k), to_string(v)));
  const RowRange queries = wanted_rows(parameters, "query_rows", q.rows, "/inputs/q" + in_file);
  const RowRange keys = wanted_rows(parameters, "key_rows", k.rows, "/inputs/k" + in_file);
  const InputShapes shapes{cut(q, queries), cut(k, keys), cut(v, keys)};
  try {
    AttentionProblem problem;
    problem.query.shape = shapes.query;
    problem.key.shape = shapes.key;
    problem.value.shape = shapes.value;
    check_problem(problem);
  } catch (const Error& error) {
    fail_input(fmt::format("'{}': {}", file.path(), error.what()));
  }
  return {std::move(file), queries, keys, shapes};
}

Tensor<float> read_rows(const Hdf5File& file, const std::string& dataset, RowRange range) {
  Tensor<float> tensor = file.read_tensor(dataset, range.begin, range.end);
  std::string name = fmt::format("{} of '{}'", dataset, file.path());
  if (range.begin > 0) name += fmt::format(", rows from {},", range.begin);
  check_finite(tensor.view(), name);
  return tensor;
}

SourceDescription description() {
  return {
      "file",
      "Q, K and V of an HDF5 file (/inputs/q, k, v; float16, bfloat16, float32 or float64)",
      {text_parameter("path",
                      "HDF5 file with /inputs/q, k and v of shape (batch, heads, rows, dim), relative to the "
                      "current folder"),
       integer_parameter("seq_len", "takes only so many first rows (of query_rows and key_rows, where given)")
           .between(1, kMaxRow)
           .or_absent(),
       range("query_rows", "[begin, end): takes this range of query rows"),
       range("key_rows", "[begin, end): takes this range of key and value rows")}};
}

class FileSource final : public DescribedSource {
 public:
  FileSource() : DescribedSource(description()) {}

  [[nodiscard]] InputShapes shapes(const Parameters& parameters) const override {
    return select(parameters).shapes;
  }

  /// A file that is too big for the memory of the moment is left to the run, where it fails its own cases
  /// only.
  void check_contents(const Parameters& parameters) const override {
    try {
      static_cast<void>(make(parameters, 0, 0));
    } catch (const Error& error) {
      if (error.blame() != Blame::environment) throw;
    }
  }

  /// Seed and trial have no effect: a file holds one draw.
  [[nodiscard]] AttentionInputs make(const Parameters& parameters, uint64_t, uint32_t) const override {
    const Selection selection = select(parameters);
    return {read_rows(selection.file, "/inputs/q", selection.queries),
            read_rows(selection.file, "/inputs/k", selection.keys),
            read_rows(selection.file, "/inputs/v", selection.keys)};
  }
};

}  // namespace

const InputSource& file_source() {
  static const FileSource source;
  return source;
}

}  // namespace hyperattn
