#include "algorithms/residuals/sample_promise.h"

namespace hyperattn {

SamplePromise sample_promise(const Parameters& parameters) {
  const auto is = [&](const char* name, const char* value) {
    return parameters.has(name) && parameters.text(name) == value;
  };
  SamplePromise promise;
  if (parameters.has("sample_size")) promise.sample_size = parameters.integer("sample_size");
  promise.approximate_division = is("estimator", "theory");
  if (promise.approximate_division) return promise;
  // Centroids, chosen columns and a fixed prefix are no random sample, and the lemmas speak of nothing else.
  if (!is("residual", "sample") || is("sampling", "prefix")) promise.sample_size = 0;
  if (is("sampling", "value_norm")) promise.variance_factor = 2;
  return promise;
}

}  // namespace hyperattn
