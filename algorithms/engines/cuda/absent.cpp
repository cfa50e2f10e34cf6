// What the engine says where the program was built without CUDA (cmake/cuda.cmake leaves the other sources
// out).
#include "algorithms/engines/cuda/device.h"
#include "algorithms/engines/cuda/run.h"
#include "core/error.h"

namespace hyperattn::cuda {

std::string why_unavailable() {
  return "is not part of this program, which was built without a CUDA compiler";
}

void choose_device(int) {}

namespace {

[[noreturn]] void fail_absent() {
  fail_environment("engine 'cuda' " + why_unavailable());
}

}  // namespace

DeviceFacts device_facts() {
  fail_absent();
}
std::string to_string(const DeviceFacts&) {
  return {};
}
std::string why_too_wide(Precision, int64_t, int64_t) {
  return {};
}
std::unique_ptr<BoundProblem> bind_to_device(const AttentionProblem&, const Engine&, Precision) {
  fail_absent();
}
AttentionResult forward_on_device(const BoundProblem&, const Plan&, const EngineOptions&) {
  fail_absent();
}
AttentionGradients backward_on_device(const BoundProblem&, const Plan&, const AttentionResult&,
                                      TensorView<const float>) {
  fail_absent();
}
std::unique_ptr<BoundProblem> bind_device_tensors(const AttentionProblem&, const DeviceInputs&, const Engine&,
                                                  Precision) {
  fail_absent();
}
void expect_forward(const BoundProblem&, const DeviceTensor&, const DeviceTensor&) {
  fail_absent();
}
DeviceForward forward_to_device(const BoundProblem&, const Plan&, const DeviceTensor&, const DeviceTensor&,
                                bool) {
  fail_absent();
}
int64_t wait_for(const BoundProblem&, const DeviceForward&) {
  fail_absent();
}
Diagnostics diagnostics_of(const BoundProblem&, const DeviceForward&) {
  fail_absent();
}
void backward_to_device(const BoundProblem&, const Plan&, const DeviceForward&, const DeviceTensor&,
                        const DeviceTensor&, const DeviceGradients&) {
  fail_absent();
}
Tensor<float> transposed_on_device(const BoundProblem&, const Plan&, const RowSums&,
                                   TensorView<const float>) {
  fail_absent();
}

}  // namespace hyperattn::cuda
