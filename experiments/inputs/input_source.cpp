#include "experiments/inputs/input_source.h"

namespace hyperattn {

const InputSource& gaussian_source();        // gaussian.cpp
const InputSource& file_source();            // file.cpp
const InputSource& clustered_source();       // clustered.cpp
const InputSource& conditioned_source();     // conditioned.cpp
const InputSource& language_model_source();  // language_model.cpp

const std::vector<const InputSource*>& all_input_sources() {
  static const std::vector<const InputSource*> sources = {&gaussian_source(), &clustered_source(),
                                                          &conditioned_source(), &file_source(),
                                                          &language_model_source()};
  return sources;
}

const InputSource* find_input_source(const std::string& name) {
  for (const InputSource* source : all_input_sources())
    if (source->name() == name) return source;
  return nullptr;
}

}  // namespace hyperattn
