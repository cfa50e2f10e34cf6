#include "algorithms/registry.h"

// The one list of each kind. A line names the function that returns the thing, whose name ends alike:
// HYPERATTN_MASKS(band) is mask_band() of masks/band.cpp. The order is that in which `hyperattn list` prints.
#define HYPERATTN_METHODS(ENTRY) \
  ENTRY(exact)                   \
  ENTRY(lsh)                     \
  ENTRY(hyper)                   \
  ENTRY(tree)                    \
  ENTRY(coreset)                 \
  ENTRY(thinned)

#define HYPERATTN_MASKS(ENTRY) \
  ENTRY(sort_lsh)              \
  ENTRY(none)                  \
  ENTRY(band)                  \
  ENTRY(file)

#define HYPERATTN_RESIDUALS(ENTRY) \
  ENTRY(sample)                    \
  ENTRY(clt_sample)                \
  ENTRY(centroids)                 \
  ENTRY(calibrated_centroids)      \
  ENTRY(linear_centroids)          \
  ENTRY(moments)                   \
  ENTRY(columns)                   \
  ENTRY(nystrom)                   \
  ENTRY(thinned)                   \
  ENTRY(none)

#define HYPERATTN_ENGINES(ENTRY) \
  ENTRY(cpu)                     \
  ENTRY(reference)               \
  ENTRY(dense)                   \
  ENTRY(cuda)                    \
  ENTRY(cudnn)

namespace hyperattn {

#define DECLARE_METHOD(NAME) const Method& method_##NAME();
#define DECLARE_MASK(NAME) const Mask& mask_##NAME();
#define DECLARE_RESIDUAL(NAME) const Residual& residual_##NAME();
#define DECLARE_ENGINE(NAME) const Engine& engine_##NAME();
HYPERATTN_METHODS(DECLARE_METHOD)
HYPERATTN_MASKS(DECLARE_MASK)
HYPERATTN_RESIDUALS(DECLARE_RESIDUAL)
HYPERATTN_ENGINES(DECLARE_ENGINE)

namespace {

template <class Thing>
const Thing* find(const std::vector<const Thing*>& things, const std::string& name) {
  for (const Thing* thing : things)
    if (thing->name() == name) return thing;
  return nullptr;
}

}  // namespace

#define LIST_METHOD(NAME) &method_##NAME(),
#define LIST_MASK(NAME) &mask_##NAME(),
#define LIST_RESIDUAL(NAME) &residual_##NAME(),
#define LIST_ENGINE(NAME) &engine_##NAME(),

const std::vector<const Method*>& all_methods() {
  static const std::vector<const Method*> all = {HYPERATTN_METHODS(LIST_METHOD)};
  return all;
}
const std::vector<const Mask*>& all_masks() {
  static const std::vector<const Mask*> all = {HYPERATTN_MASKS(LIST_MASK)};
  return all;
}
const std::vector<const Residual*>& all_residuals() {
  static const std::vector<const Residual*> all = {HYPERATTN_RESIDUALS(LIST_RESIDUAL)};
  return all;
}
const std::vector<const Engine*>& all_engines() {
  static const std::vector<const Engine*> all = {HYPERATTN_ENGINES(LIST_ENGINE)};
  return all;
}

const Method* find_method(const std::string& name) {
  return find(all_methods(), name);
}
const Mask* find_mask(const std::string& name) {
  return find(all_masks(), name);
}
const Residual* find_residual(const std::string& name) {
  return find(all_residuals(), name);
}
const Engine* find_engine(const std::string& name) {
  return find(all_engines(), name);
}

const Engine& default_engine() {
  return engine_cpu();
}

}  // namespace hyperattn
