#include "algorithms/backend.h"

#include "algorithms/engines/cpu/engine.h"
#include "algorithms/engines/dense/dense.h"
#include "algorithms/engines/reference/reference.h"
#include "algorithms/methods/exact.h"
#include "algorithms/methods/hyper.h"
#include "algorithms/methods/lsh.h"
#include "core/error.h"

namespace hyperattn {

std::string Backend::check(const TensorShape&, const TensorShape&, const TensorShape&, bool,
                           const Parameters&) const {
  return {};
}

std::string Backend::no_gradient(const Parameters&) const {
  return capabilities().backward ? "" : "has no backward pass";
}

AttentionGradients Backend::backward(const AttentionProblem& problem, const CallContext& context,
                                     const ForwardState& forward, TensorView<const float> dout) const {
  const std::string refusal = no_gradient(context.parameters);
  if (!refusal.empty()) fail_usage("backend '" + name() + "' " + refusal);
  return run_backward(problem, *forward.plan, forward.result, dout);
}

std::shared_ptr<const Plan> Backend::mask_plan(const AttentionProblem&, const CallContext&) const {
  return nullptr;
}

std::shared_ptr<const Plan> Backend::unmasked_plan(const AttentionProblem&, const CallContext&) const {
  return nullptr;
}

const std::vector<const Backend*>& all_backends() {
  static const std::vector<const Backend*> backends = {&reference_backend(), &dense_backend(),
                                                       &exact_backend(), &lsh_backend(), &hyper_backend()};
  return backends;
}

const Backend* find_backend(const std::string& name) {
  for (const Backend* backend : all_backends())
    if (backend->name() == name) return backend;
  return nullptr;
}

std::vector<std::string> backend_names() {
  std::vector<std::string> names;
  for (const Backend* backend : all_backends()) names.push_back(backend->name());
  return names;
}

}  // namespace hyperattn
