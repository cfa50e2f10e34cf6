#include "experiments/language_model/architectures/read_model_config.h"
#include "experiments/language_model/safetensors.h"
#include "experiments/language_model/token_file.h"
#include "experiments/results/record_text.h"
#include "tests/fuzz/promises.h"
#include "tests/fuzz/scratch_file.h"
#include "tests/fuzz/targets.h"

namespace hyperattn::fuzz {
namespace {

void read_safetensors(const std::string& bytes) {
  const ScratchFile file(bytes);
  const TensorArchive archive = TensorArchive::open_file(file.path());
  for (const std::string& name : archive.names()) {
    const TensorEntry& entry = *archive.find(name);
    promise(entry.begin <= entry.end && entry.end <= static_cast<int64_t>(bytes.size()),
            "a tensor lies in its file");
    reads_or_refuses([&] {
      const Buffer<float> values = archive.read(name, entry.shape);
      promise(values.size() == entry.size(), "a tensor has as many values as its shape says");
    });
  }
}

void read_ids(const std::string& bytes) {
  constexpr int64_t kVocabulary = 300;
  for (const int32_t id : parse_token_ids(bytes, "fuzz ids", kVocabulary))
    promise(id >= 0 && id < kVocabulary, "an id is inside the vocabulary");
}

void read_record(const std::string& text) {
  const TrialRecord record = decode_record(text, "fuzz record");
  const TrialRecord again = decode_record(encode_record(record), "fuzz record, encoded again");
  promise(again.same_as(record), "a record survives the journal");
}

void read_header(const std::string& text) {
  const ResultsFile header = decode_header(text, "fuzz header");
  promise(decode_header(encode_header(header), "fuzz header, encoded again").cases == header.cases,
          "a header survives the journal");
}

}  // namespace

void run_model_files(const std::string& bytes) {
  if (bytes.empty()) return;
  const std::string rest = bytes.substr(1);
  reads_or_refuses([&] {
    switch (bytes.front()) {
      case 's':
        return read_safetensors(rest);
      case 'c':
        return static_cast<void>(parse_model_config(rest, "fuzz config.json"));
      case 'i':
        return read_ids(rest);
      case 'r':
        return read_record(rest);
      default:
        return read_header(rest);
    }
  });
}

}  // namespace hyperattn::fuzz
