// The labels as one tab sees them: what the server said last, with this tab's own changes that it has not confirmed yet on top.

const copy = (record) => ({
  boxes: record.boxes.map((box) => ({ ...box, b: [...box.b] })),
  lacks: [...record.lacks],
  revision: record.revision,
});
const EMPTY = { boxes: [], lacks: [], revision: 0 };

function change(record, op) {
  const at = record.boxes.findIndex((box) => box.id === op.id);
  if (op.do === "put") {
    const box = { id: op.id, c: op.c, b: op.b };
    at < 0 ? record.boxes.push(box) : record.boxes.splice(at, 1, box);
    record.lacks = record.lacks.filter((c) => c !== op.c);
  } else if (op.do === "cut") {
    if (at >= 0) record.boxes.splice(at, 1);
  } else {
    record.lacks = record.lacks.filter((c) => c !== op.c);
    if (op.on && !record.boxes.some((box) => box.c === op.c)) record.lacks.push(op.c);
  }
}

// What takes a change back, for the record as it was before it.
function inverse(record, op) {
  const old = record.boxes.find((box) => box.id === op.id);
  if (op.do === "lacks") return [{ ...op, on: record.lacks.includes(op.c) }];
  if (op.do === "cut") return old ? [{ do: "put", image: op.image, id: old.id, c: old.c, b: [...old.b] }] : [];
  if (old) return [{ do: "put", image: op.image, id: old.id, c: old.c, b: [...old.b] }];
  const back = [{ do: "cut", image: op.image, id: op.id }];
  if (record.lacks.includes(op.c)) back.push({ do: "lacks", image: op.image, c: op.c, on: true });
  return back;
}

export class Board {
  // `drawer` names the place in the tab's own storage where changes wait that no answer came to: a page that has to load
  // again, after the machine slept, sends them once more (the same change twice is the same as once).
  constructor(records, send, drawer) {
    this.drawer = drawer;
    this.server = {}; // sample -> record
    this.view = {}; // the same with unconfirmed changes
    this.pending = []; // {seq, ops}
    this.past = [];
    this.future = [];
    this.seq = 0;
    this.send = send;
    for (const [sample, record] of Object.entries(records)) this.patch(Number(sample), record);
    this.unsent = JSON.parse(sessionStorage.getItem(drawer) || "[]");
  }

  // Once the server listens: what an earlier load of this page could not send.
  resume() {
    const waiting = this.unsent.splice(0);
    for (const ops of waiting) this.push(ops);
  }

  keep() {
    sessionStorage.setItem(this.drawer, JSON.stringify([...this.unsent, ...this.pending.map(({ ops }) => ops)]));
  }

  record(sample) {
    return this.view[sample] || EMPTY;
  }

  patch(sample, record) {
    if ((this.server[sample]?.revision ?? -1) <= record.revision) this.server[sample] = record;
    this.rebuild(sample);
  }

  rebuild(sample) {
    const record = copy(this.server[sample] || EMPTY);
    for (const { ops } of this.pending) for (const op of ops) if (op.image === sample) change(record, op);
    this.view[sample] = record;
  }

  confirm(seq) {
    const done = this.pending.find((p) => p.seq === seq);
    this.pending = this.pending.filter((p) => p.seq !== seq);
    this.keep();
    for (const op of done?.ops || []) this.rebuild(op.image);
  }

  // Make changes, here at once and on the server.
  make(ops) {
    if (!ops.length) return;
    const back = [];
    const records = {};
    for (const op of ops) {
      const record = (records[op.image] ??= copy(this.record(op.image)));
      back.unshift(...inverse(record, op));
      change(record, op);
    }
    this.past.push({ ops, back });
    this.future = [];
    this.push(ops);
  }

  push(ops) {
    this.seq += 1;
    this.pending.push({ seq: this.seq, ops });
    this.keep();
    for (const op of ops) this.rebuild(op.image);
    this.send({ seq: this.seq, ops });
  }

  // Take the latest change back (or make it again); gives the sample it was on.
  undo() {
    const step = this.past.pop();
    if (!step) return null;
    this.future.push(step);
    this.push(step.back);
    return step.ops[0].image;
  }

  redo() {
    const step = this.future.pop();
    if (!step) return null;
    this.past.push(step);
    this.push(step.ops);
    return step.ops[0].image;
  }
}
