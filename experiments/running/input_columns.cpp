#include "experiments/running/input_columns.h"

namespace hyperattn {

void describe_input(const InputPoint& point, TrialRecord& record) {
  const InputShapes& shapes = *point.shapes;
  record.set_parameters(point.source->parameters(), point.parameters);
  RowValues& row = record.row;
  row.set_text("source", point.source->name());
  row.set_text("input_label", point.label);
  row.set_integer("seq_len", shapes.query.rows);
  row.set_integer("key_len", shapes.key.rows);
  row.set_integer("head_dim", shapes.query.dim);
  row.set_integer("value_dim", shapes.value.dim);
  row.set_integer("heads", shapes.query.heads);
  if (shapes.key.heads != shapes.query.heads) row.set_integer("kv_heads", shapes.key.heads);
  row.set_integer("batch", shapes.query.batch);
  row.set_integer("causal", point.causal ? 1 : 0);
  if (point.scale) row.set_number("scale", *point.scale);
}

}  // namespace hyperattn
