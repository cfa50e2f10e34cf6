// What the engine says where the program was built without cuDNN (cmake/cudnn.cmake leaves attention.cpp
// out).
#include "algorithms/engines/cudnn/attention.h"
#include "core/error.h"

namespace hyperattn::cudnn {
namespace {

[[noreturn]] void fail_absent() {
  fail_environment("engine 'cudnn' " + why_unavailable());
}

}  // namespace

std::string why_unavailable() {
  return "is not part of this program, which was built without a CUDA compiler or the headers of cuDNN";
}
std::string version() {
  return {};
}
std::unique_ptr<BoundProblem> bind_to_device(const AttentionProblem&, const Engine&, const Settings&) {
  fail_absent();
}
AttentionResult forward_on_device(const BoundProblem&) {
  fail_absent();
}
AttentionGradients backward_on_device(const BoundProblem&, const AttentionResult&, TensorView<const float>) {
  fail_absent();
}

}  // namespace hyperattn::cudnn
