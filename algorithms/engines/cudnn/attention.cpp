#include "algorithms/engines/cudnn/attention.h"

#include <cuda_runtime_api.h>
#include <dlfcn.h>

#include <cmath>
#include <cstdlib>
#include <numbers>
#include <unordered_map>

// The library is looked for when it is wanted, so that the program starts where there is none.
#define NV_CUDNN_FRONTEND_USE_DYNAMIC_LOADING
#define CUDNN_FRONTEND_SKIP_JSON_LIB
#include <cudnn_frontend.h>

#include "algorithms/engines/cuda/device.h"
#include "algorithms/engines/cuda/device_problem.h"
#include "core/error.h"
#include "core/timing.h"

namespace cudnn_frontend {
void* cudnn_dlhandle = nullptr;
}

namespace hyperattn::cudnn {
namespace {

namespace fe = cudnn_frontend;
using cuda::Device;
using cuda::DeviceArray;
using cuda::DeviceRows;
using cuda::DeviceTimer;
using cuda::padded_width;
using cuda::Precision;
using Pointers = std::unordered_map<int64_t, void*>;

constexpr int64_t kLeastVersion = 90000;

// Names of tensors in a graph.
enum Uid : int64_t { kQuery = 1, kKey, kValue, kOut, kStats, kDout, kDquery, kDkey, kDvalue };

std::string find_obstacle() {
  if (std::string gpu = cuda::why_unavailable(); !gpu.empty()) return gpu;
  const char* named = std::getenv("HYPERATTN_CUDNN_LIBRARY");
  const std::string library = named != nullptr && *named != '\0' ? named : "libcudnn.so.9";
  fe::cudnn_dlhandle = dlopen(library.c_str(), RTLD_NOW);
  if (fe::cudnn_dlhandle == nullptr)
    return "needs " + library +
           ", which this machine's loader does not find (HYPERATTN_CUDNN_LIBRARY names a file)";
  const auto seen = static_cast<int64_t>(fe::detail::get_backend_version());
  if (seen < kLeastVersion) return "needs cuDNN 9, but " + library + " is version " + std::to_string(seen);
  return {};
}

void check(fe::error_t error,
           const char* doing) {  // by value: its message is asked for by a member that is not const
  if (error.is_good()) return;
  fail_environment("engine 'cudnn': " + std::string(doing) + " failed: " + error.get_message());
}

void check(cudnnStatus_t status, const char* doing) {
  if (status != CUDNN_STATUS_SUCCESS)
    fail_environment("engine 'cudnn': " + std::string(doing) +
                     " failed: " + fe::detail::get_error_string(status));
}

/// The library's own state for the engine's stream, for the life of the process.
cudnnHandle_t handle() {
  static const cudnnHandle_t made = [] {
    cudnnHandle_t one = nullptr;
    check(fe::detail::create_handle(&one), "starting cuDNN");
    check(fe::detail::set_stream(one, static_cast<cudaStream_t>(Device::current().stream())),
          "choosing a stream");
    return one;
  }();
  return made;
}

/// (batch, heads, rows, width) of contiguous rows.
fe::graph::Tensor_attributes contiguous(int64_t uid, const TensorShape& shape, int64_t width) {
  return fe::graph::Tensor_attributes()
      .set_uid(uid)
      .set_dim({shape.batch, shape.heads, shape.rows, width})
      .set_stride({shape.heads * shape.rows * width, shape.rows * width, width, 1});
}

void make_output(const std::shared_ptr<fe::graph::Tensor_attributes>& tensor,
                 const fe::graph::Tensor_attributes& as) {
  tensor->set_output(true).set_uid(as.get_uid()).set_dim(as.get_dim()).set_stride(as.get_stride());
}

/// A graph that is ready to run, and the memory it works in.
class Graph {
 public:
  explicit Graph(const std::shared_ptr<fe::graph::Graph>& graph) : graph_(graph) {
    check(graph_->build(handle(), {fe::HeurMode_t::A}), "finding a kernel");
    int64_t bytes = 0;
    check(graph_->get_workspace_size(bytes), "asking for the size of a workspace");
    workspace_ = DeviceArray<unsigned char>(bytes, "cuDNN's workspaces");
  }
  void run(Pointers pointers) const {
    check(graph_->execute(handle(), pointers, workspace_.data()), "attention");
  }

 private:
  std::shared_ptr<fe::graph::Graph> graph_;
  DeviceArray<unsigned char> workspace_;
};

class CudnnProblem final : public BoundProblem {
 public:
  CudnnProblem(const AttentionProblem& problem, const Engine& engine, const Settings& settings)
      : BoundProblem(problem, engine),
        precision_(settings.half ? Precision::fp16 : Precision::bf16),
        deterministic_(settings.deterministic),
        query_(problem.query, precision_, "queries"),
        key_(problem.key, precision_, "keys"),
        value_(problem.value, precision_, "values") {}

  [[nodiscard]] Precision precision() const { return precision_; }
  [[nodiscard]] Pointers inputs() const {
    return {{kQuery, address(query_)}, {kKey, address(key_)}, {kValue, address(value_)}};
  }
  [[nodiscard]] TensorShape out_shape() const {
    TensorShape shape = problem().query.shape;
    shape.dim = problem().value_dim();
    return shape;
  }
  [[nodiscard]] const Graph& forward() const {
    if (!forward_) forward_ = std::make_unique<Graph>(forward_graph());
    return *forward_;
  }
  [[nodiscard]] const Graph& backward() const {
    if (!backward_) backward_ = std::make_unique<Graph>(backward_graph());
    return *backward_;
  }

 private:
  using Attributes = std::shared_ptr<fe::graph::Tensor_attributes>;

  static void* address(const cuda::DeviceInput& input) { return const_cast<void*>(input.rounded()); }

  [[nodiscard]] std::shared_ptr<fe::graph::Graph> empty_graph() const {
    const auto graph = std::make_shared<fe::graph::Graph>();
    graph->set_io_data_type(precision_ == Precision::fp16 ? fe::DataType_t::HALF : fe::DataType_t::BFLOAT16)
        .set_intermediate_data_type(fe::DataType_t::FLOAT)
        .set_compute_data_type(fe::DataType_t::FLOAT);
    return graph;
  }
  [[nodiscard]] fe::graph::Tensor_attributes rows(int64_t uid, const TensorShape& shape,
                                                  int64_t width) const {
    return contiguous(uid, shape, padded_width(width));
  }
  [[nodiscard]] fe::graph::Tensor_attributes query() const {
    return rows(kQuery, problem().query.shape, problem().head_dim());
  }
  [[nodiscard]] fe::graph::Tensor_attributes key(int64_t uid) const {
    return rows(uid, problem().key.shape, problem().head_dim());
  }
  [[nodiscard]] fe::graph::Tensor_attributes value(int64_t uid) const {
    return rows(uid, problem().value.shape, problem().value_dim());
  }
  [[nodiscard]] fe::graph::Tensor_attributes out(int64_t uid) const {
    return rows(uid, problem().query.shape, problem().value_dim());
  }
  [[nodiscard]] fe::graph::Tensor_attributes stats() const {
    return contiguous(kStats, problem().query.shape, 1).set_data_type(fe::DataType_t::FLOAT);
  }

  /// Row i stands at key position i + n_k − n_q.
  template <class Options>
  void describe(Options& options) const {
    options.set_attn_scale(problem().scale);
    if (!problem().causal) return;
    options.set_diagonal_alignment(problem().causal_offset() == 0 ? fe::DiagonalAlignment_t::TOP_LEFT
                                                                  : fe::DiagonalAlignment_t::BOTTOM_RIGHT);
    options.set_diagonal_band_right_bound(0);
  }

  [[nodiscard]] std::shared_ptr<fe::graph::Graph> forward_graph() const {
    auto graph = empty_graph();
    auto options = fe::graph::SDPA_attributes().set_name("forward").set_generate_stats(true);
    describe(options);
    const auto [result, sums] =
        graph->sdpa(graph->tensor(query()), graph->tensor(key(kKey)), graph->tensor(value(kValue)), options);
    make_output(result, out(kOut));
    make_output(sums, stats());
    sums->set_data_type(fe::DataType_t::FLOAT);
    return graph;
  }

  [[nodiscard]] std::shared_ptr<fe::graph::Graph> backward_graph() const {
    auto graph = empty_graph();
    auto options = fe::graph::SDPA_backward_attributes()
                       .set_name("backward")
                       .set_deterministic_algorithm(deterministic_);
    describe(options);
    const auto [dquery, dkey, dvalue] = graph->sdpa_backward(
        graph->tensor(query()), graph->tensor(key(kKey)), graph->tensor(value(kValue)),
        graph->tensor(out(kOut)), graph->tensor(out(kDout)), graph->tensor(stats()), options);
    make_output(dquery, rows(kDquery, problem().query.shape, problem().head_dim()));
    make_output(dkey, key(kDkey));
    make_output(dvalue, value(kDvalue));
    return graph;
  }

  Precision precision_;
  bool deterministic_;
  cuda::DeviceInput query_;
  cuda::DeviceInput key_;
  cuda::DeviceInput value_;
  mutable std::unique_ptr<Graph> forward_;
  mutable std::unique_ptr<Graph> backward_;
};

const CudnnProblem& on_device(const BoundProblem& bound) {
  return dynamic_cast<const CudnnProblem&>(bound);
}

DeviceRows rows_like(const TensorShape& shape, Precision precision, const char* what) {
  return {precision, shape.size() / shape.dim, shape.dim, what};
}

/// Rows of the precision on the card as fp32 rows of the shape's width.
Tensor<float> downloaded(const DeviceRows& rows, const TensorShape& shape, Precision precision) {
  const DeviceArray<float> wide(shape.size() / shape.dim * padded_width(shape.dim), "results");
  cuda::check(
      cuda::launch_widen(precision, rows.data(), wide.data(), wide.size(), Device::current().stream()),
      "widening results");
  return cuda::unpadded(wide, shape);
}

/// cuDNN gives the log-sum-exp alone: the denominator of a row is then 2^(lse·log2 e) as maximum and a factor
/// near 1.
void set_sums(AttentionResult& result) {
  const TensorShape& shape = result.lse.shape();
  result.sums = {Tensor<float>(shape), Tensor<double>(shape)};
  for (int64_t row = 0; row < shape.size(); ++row) {
    const double log2_sum = std::numbers::log2e * static_cast<double>(result.lse.data()[row]);
    const auto maximum = static_cast<float>(log2_sum);
    result.sums.maximum.data()[row] = maximum;
    result.sums.sum.data()[row] = std::exp2(log2_sum - static_cast<double>(maximum));
  }
}

/// Everything but the kernels is copying, taking memory or building a graph.
void book(Diagnostics& diagnostics, Stage stage, double computing, double total) {
  diagnostics.stage_seconds[stage_name(stage)] += computing;
  diagnostics.stage_seconds[stage_name(Stage::transfer)] += std::max(total - computing, 0.0);
}

}  // namespace

std::string why_unavailable() {
  static const std::string obstacle = find_obstacle();
  return obstacle;
}

std::string version() {
  if (!why_unavailable().empty()) return {};
  const size_t number = fe::detail::get_backend_version();
  return std::to_string(number / 10000) + "." + std::to_string(number / 100 % 100) + "." +
         std::to_string(number % 100);
}

std::unique_ptr<BoundProblem> bind_to_device(const AttentionProblem& problem, const Engine& engine,
                                             const Settings& settings) {
  if (const std::string obstacle = why_unavailable(); !obstacle.empty())
    fail_environment("engine 'cudnn' " + obstacle);
  static_cast<void>(Device::current());
  return std::make_unique<CudnnProblem>(problem, engine, settings);
}

AttentionResult forward_on_device(const BoundProblem& bound) {
  const std::lock_guard<std::mutex> lock(cuda::one_call());
  const Stopwatch watch;
  const CudnnProblem& own = on_device(bound);
  DeviceTimer timer(Device::current());
  const TensorShape shape = own.out_shape();
  TensorShape row_shape = shape;
  row_shape.dim = 1;
  const DeviceRows out = rows_like(shape, own.precision(), "outputs");
  const DeviceArray<float> stats(row_shape.size(), "log-sum-exps");
  Pointers pointers = own.inputs();
  pointers[kOut] = out.data();
  pointers[kStats] = stats.data();
  const Graph& graph = own.forward();
  timer.start();
  graph.run(pointers);
  timer.stop();
  AttentionResult result;
  result.out = downloaded(out, shape, own.precision());
  result.lse = Tensor<float>(row_shape);
  stats.download(result.lse.data());
  set_sums(result);
  book(result.diagnostics, Stage::exact, timer.seconds(), watch.seconds());
  return result;
}

AttentionGradients backward_on_device(const BoundProblem& bound, const AttentionResult& forward,
                                      TensorView<const float> dout) {
  if (!(dout.shape == forward.out.shape()))
    fail_input("dout must have the shape of out, " + to_string(forward.out.shape()) + ", but is " +
               to_string(dout.shape));
  const std::lock_guard<std::mutex> lock(cuda::one_call());
  const Stopwatch watch;
  const CudnnProblem& own = on_device(bound);
  const AttentionProblem& problem = own.problem();
  const Precision precision = own.precision();
  DeviceTimer timer(Device::current());
  const int64_t rows = dout.shape.size() / dout.shape.dim;
  const DeviceRows out = DeviceRows::rounded(precision, forward.out.data(), rows, dout.shape.dim, "outputs");
  const DeviceRows upstream =
      DeviceRows::rounded(precision, dout.data, rows, dout.shape.dim, "gradients of outputs");
  const DeviceArray<float> stats(forward.lse.data(), rows, "log-sum-exps");
  const DeviceRows dquery = rows_like(problem.query.shape, precision, "gradients of queries");
  const DeviceRows dkey = rows_like(problem.key.shape, precision, "gradients of keys");
  const DeviceRows dvalue = rows_like(problem.value.shape, precision, "gradients of values");
  Pointers pointers = own.inputs();
  pointers[kOut] = out.data();
  pointers[kDout] = upstream.data();
  pointers[kStats] = const_cast<float*>(stats.data());
  pointers[kDquery] = dquery.data();
  pointers[kDkey] = dkey.data();
  pointers[kDvalue] = dvalue.data();
  const Graph& graph = own.backward();
  timer.start();
  graph.run(pointers);
  timer.stop();
  AttentionGradients gradients{downloaded(dquery, problem.query.shape, precision),
                               downloaded(dkey, problem.key.shape, precision),
                               downloaded(dvalue, problem.value.shape, precision),
                               {}};
  book(gradients.diagnostics, Stage::backward, timer.seconds(), watch.seconds());
  return gradients;
}

}  // namespace hyperattn::cudnn
