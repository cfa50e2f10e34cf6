// The only list of architectures: one line for each file.
#include "experiments/language_model/architectures/architecture.h"

#define HYPERATTN_ARCHITECTURES(each)                                                                      \
  each(arcee) each(cohere) each(ernie4_5) each(gemma) each(gemma2) each(gemma3) each(glm) each(glm4)       \
      each(gpt2) each(gpt_neox) each(granite) each(helium) each(llama) each(mistral) each(nemotron)        \
          each(olmo) each(olmo2) each(phi) each(phi3) each(qwen2) each(qwen3) each(seed_oss) each(smollm3) \
              each(stablelm) each(starcoder2)

namespace hyperattn {

#define HYPERATTN_DECLARE(file) const Architecture& file##_architecture();
HYPERATTN_ARCHITECTURES(HYPERATTN_DECLARE)
#undef HYPERATTN_DECLARE

const std::vector<const Architecture*>& all_architectures() {
#define HYPERATTN_LIST(file) &file##_architecture(),
  static const std::vector<const Architecture*> architectures = {HYPERATTN_ARCHITECTURES(HYPERATTN_LIST)};
#undef HYPERATTN_LIST
  return architectures;
}

}  // namespace hyperattn
