// Heads that are captured from a model over its text.
#include "experiments/inputs/language_model.h"

#include <catch2/catch.hpp>

#include "tests/experiments/language_model/fixture.h"

using namespace hyperattn;
using namespace hyperattn::testing;
using Catch::Contains;

TEST_CASE("language model source: heads in the order asked for, rows cut, refusals") {
  const ModelWithIds tiny;
  const InputSource& source = *find_input_source("language_model");
  Parameters parameters = default_parameters(source.parameters());
  parameters.set("model", tiny.folder.path());
  parameters.set("ids", tiny.folder / "ids.txt");
  parameters.set("seq_len", int64_t{20});
  CHECK(source.shapes(parameters).query == TensorShape{1, 18, 20, 8});
  const AttentionInputs all = source.make(parameters, 0, 2);
  parameters.set("layers", IntegerList{2, 0});
  parameters.set("heads", IntegerList{1, 5});
  parameters.set("paired", true);
  parameters.set("query_rows", IntegerList{10, 20});
  parameters.set("key_rows", IntegerList{0, 7});
  const AttentionInputs some = source.make(parameters, 0, 2);
  REQUIRE(some.query.shape() == TensorShape{1, 2, 10, 8});
  REQUIRE(some.value.shape() == TensorShape{1, 2, 7, 8});
  CHECK(some.query.matrix(0).row(3)[2] == all.query.matrix(13).row(13)[2]);
  CHECK(some.key.matrix(1).row(6)[7] == all.key.matrix(5).row(6)[7]);
  CHECK(some.value.matrix(0).row(0)[0] == all.value.matrix(13).row(0)[0]);

  parameters.set("heads", IntegerList{1});
  CHECK_THAT(usage_error([&] { (void)source.shapes(parameters); }), Contains("2 layers and 1 heads"));
  parameters.set("heads", IntegerList{1, 6});
  CHECK_THAT(usage_error([&] { (void)source.shapes(parameters); }), Contains("between 0 and 5"));
  parameters.set("heads", IntegerList{1, 5});
  parameters.set("key_rows", IntegerList{0, 21});
  CHECK_THAT(usage_error([&] { (void)source.shapes(parameters); }), Contains("key_rows") && Contains("20"));
  parameters.erase("key_rows");
  CHECK_THAT(input_error([&] { (void)source.make(parameters, 0, 10); }), Contains("too short"));
  parameters.set("seq_len", int64_t{513});
  CHECK_NOTHROW(source.shapes(parameters));  // beyond max_position_embeddings: a warning, later
  parameters.set("seq_len", int64_t{20});
  parameters.erase("ids");
  CHECK_THAT(usage_error([&] { source.check_contents(parameters); }), Contains("no byte tokenizer"));
}
