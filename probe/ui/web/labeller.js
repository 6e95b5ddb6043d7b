// Marking objects: the grid of samples, one of them enlarged, the concepts, the keyboard.

import { Board } from "/web/board.js";
import Canvas from "/web/canvas.js";
import Grid from "/web/grid.js";
import keyboard from "/web/keyboard.js";

export default {
  emits: ["marks", "look", "name", "drop"], // declared, so that native events of these names stay inside
  mixins: [keyboard],
  components: { PrCanvas: Canvas, PrGrid: Grid },
  template: `
    <div class="pr-labeller">
      <div class="pr-bar" role="toolbar" aria-label="Concepts">
        <button v-for="(c, k) in known" :key="c.id" class="pr-concept" :class="{on: c.id === concept}"
                :aria-pressed="c.id === concept ? 'true' : 'false'" @click="take(c.id)">
          <i :style="{background: c.colour}"></i>{{ c.name }} <kbd v-if="k < 9">{{ k + 1 }}</kbd>
          <b>{{ tally[c.id] }}</b>
        </button>
        <form @submit.prevent="name">
          <input v-model="draft" class="pr-input" :placeholder="known.length ? 'another concept' : 'name a concept, e.g. window'"
                 aria-label="Name of a new concept" maxlength="40">
          <button class="pr-button" :disabled="!draft.trim()">Add</button>
        </form>
        <button v-if="concept && !tally[concept] && known.length > 1" class="pr-button" @click="$emit('drop', concept)">Remove {{ nameOf(concept) }}</button>
      </div>
      <div class="pr-left">
        <div class="pr-bar">
          <label>Order <select v-model="order" class="pr-input" >
            <option value="number">by number</option><option value="unsure" :disabled="!suggestions">least sure first</option>
          </select></label>
          <label><input type="checkbox" v-model="open"> undecided only</label>
          <span class="pr-note" aria-live="polite">{{ decided }} of {{ n }} decided</span>
        </div>
        <pr-grid ref="grid" label="samples" :items="items" :sheet="{url, size}" :badges="badges" :current="sample"
                 :keys="false" @pick="show"></pr-grid>
      </div>
      <div class="pr-stage">
        <div class="pr-bar">
          <button class="pr-button" aria-label="Previous sample" title="Previous (left arrow)" @click="step(-1)">‹</button>
          <strong class="pr-sample">Sample {{ sample }}</strong>
          <button class="pr-button" aria-label="Next sample" title="Next (right arrow)" @click="step(1)">›</button>
          <span class="pr-note" aria-live="polite">{{ state }}</span>
          <span class="pr-saved" :class="{bad: trouble}" role="status">{{ trouble || (waiting ? "Saving…" : "Saved") }}</span>
        </div>
        <pr-canvas :size="size" :url="url" :sample="sample" :smooth="smooth" :boxes="record.boxes" :proposals="offered"
                   :colours="colours" :concept="concept" :selected="selected" @choose="grasp" @put="put"
                   @accept="accept([$event])"></pr-canvas>
        <div class="pr-bar">
          <button class="pr-button strong" :disabled="!concept || has" :aria-pressed="lacks ? 'true' : 'false'" @click="none">
            No {{ nameOf(concept) || "object" }} here <kbd>N</kbd></button>
          <button v-if="suggestions" class="pr-button" :disabled="!acceptable" @click="acceptAll">
            {{ offered.length ? "Accept " + offered.length : acceptable ? "Accept: none here" : "Nothing proposed" }} <kbd>Enter</kbd></button>
          <button class="pr-button" :disabled="!concept" @click="add">New box <kbd>B</kbd></button>
          <button class="pr-button" :disabled="!selected" @click="cut">Delete <kbd>Del</kbd></button>
          <button class="pr-button" :disabled="!steps.past" @click="undo">Undo <kbd>Ctrl Z</kbd></button>
          <button class="pr-button" :disabled="!steps.future" @click="redo">Redo</button>
          <label><input type="checkbox" v-model="smooth"> smooth</label>
          <button class="pr-button" :aria-expanded="help ? 'true' : 'false'" @click="help = !help">Keys <kbd>?</kbd></button>
        </div>
        <dl v-if="help" class="pr-keys">
          <div v-for="[k, what] in keys" :key="k"><dt><kbd>{{ k }}</kbd></dt><dd>{{ what }}</dd></div>
        </dl>
      </div>
    </div>`,
  props: {
    n: Number,
    size: Number,
    url: String,
    records: Object, // these two as they were when the page was made
    concepts: Array, // [{id, name, colour, ink}]
  },
  data() {
    const kept = JSON.parse(sessionStorage.getItem("probe-label") || "{}");
    return {
      sample: Math.min(kept.sample || 0, this.n - 1), concept: kept.concept ?? null, selected: null, smooth: true, help: false,
      order: "number", open: false, draft: "", nudging: false, clock: 0, trouble: "", lost: false, known: this.concepts,
      suggestions: null, // {concept, boxes: {sample: [[x0, y0, x1, y1]]}, order: [sample]}
    }; // prettier-ignore
  },
  created() {
    this.board = new Board(this.records, (message) => this.$emit("marks", message), "unsaved " + this.url);
    if (!this.known.some((c) => c.id === this.concept)) this.concept = this.known[0]?.id ?? null;
  },
  mounted() {
    this.heart = setInterval(() => this.listen(), 1000);
    this.tell();
    this.board.resume();
    this.clock += 1;
  },
  unmounted() {
    clearInterval(this.heart);
  },
  watch: {
    sample: "tell",
    concept: "tell",
    order() {
      if (this.order === "unsure") this.show(this.items.find((i) => !this.isDecided(i)) ?? this.sample);
    },
    known() {
      if (!this.known.some((c) => c.id === this.concept)) this.concept = this.known.at(-1)?.id ?? null;
    },
  },
  computed: {
    // The board is no reactive object (it is large): `clock` says that it changed.
    record() {
      return this.clock, this.board.record(this.sample);
    },
    steps() {
      return this.clock, { past: this.board.past.length, future: this.board.future.length };
    },
    waiting() {
      return this.clock, this.board.pending.length;
    },
    colours() {
      return Object.fromEntries(this.known.map((c) => [c.id, c.colour]));
    },
    has() {
      return this.record.boxes.some((box) => box.c === this.concept);
    },
    lacks() {
      return this.record.lacks.includes(this.concept);
    },
    state() {
      const name = this.nameOf(this.concept);
      if (!name) return "name a concept first";
      const count = this.record.boxes.filter((box) => box.c === this.concept).length;
      return count ? `${count} ${name}` : this.lacks ? `no ${name} here` : `${name}: undecided`;
    },
    offered() {
      const fits = this.suggestions?.concept === this.concept && !this.has && !this.lacks;
      return fits ? this.suggestions.boxes[this.sample] || [] : [];
    },
    acceptable() {
      return this.suggestions?.concept === this.concept && !this.has && !this.lacks;
    },
    items() {
      let items = [...Array(this.n).keys()];
      if (this.order === "unsure" && this.suggestions?.concept === this.concept) items = this.suggestions.order;
      if (this.open) items = items.filter((i) => i === this.sample || !this.isDecided(i));
      return items;
    },
    decided() {
      return this.clock, Object.keys(this.board.view).filter((i) => this.isDecided(i)).length;
    },
    tally() {
      const counts = Object.fromEntries(this.known.map((c) => [c.id, 0]));
      for (const record of Object.values((this.clock, this.board.view))) for (const box of record.boxes) counts[box.c] += 1;
      return counts;
    },
    badges() {
      const out = {};
      for (const [i, record] of Object.entries((this.clock, this.board.view))) {
        const marks = this.known.flatMap((c) => {
          const k = record.boxes.filter((box) => box.c === c.id).length;
          if (k) return [{ text: c.id === this.concept ? String(k) : "", colour: c.colour, ink: c.ink, kind: c.id === this.concept ? "" : "dot", name: `${k} ${c.name}` }];
          return c.id === this.concept && record.lacks.includes(c.id) ? [{ text: "–", kind: "none", name: `no ${c.name}` }] : [];
        });
        out[i] = { marks };
      }
      return out;
    },
  },
  methods: {
    // From the server.
    patch(sample, record) {
      this.board.patch(sample, record);
      this.clock += 1;
    },
    confirm(seq, trouble) {
      this.board.confirm(seq);
      this.trouble = trouble || "";
      this.clock += 1;
    },
    propose(suggestions) {
      this.suggestions = suggestions && Object.freeze(suggestions);
      if (!suggestions) this.order = "number";
    },
    naming(concepts) {
      this.known = concepts;
    },
    listen() {
      const connected = window.socket?.connected !== false;
      if (!connected) this.trouble = "Not saved: no connection to probe label";
      else if (this.lost) this.trouble = "";
      this.lost = !connected;
    },
    tell() {
      sessionStorage.setItem("probe-label", JSON.stringify({ sample: this.sample, concept: this.concept }));
      this.$emit("look", { sample: this.sample, concept: this.concept });
    },
    nameOf(id) {
      return this.known.find((c) => c.id === id)?.name || "";
    },
    isDecided(i) {
      const record = this.board.record(i);
      return record.lacks.includes(this.concept) || record.boxes.some((box) => box.c === this.concept);
    },
    name() {
      if (this.draft.trim()) this.$emit("name", this.draft);
      this.draft = "";
      document.activeElement?.blur?.();
    },
    take(id) {
      this.concept = id;
      this.selected = null;
    },
    show(sample) {
      this.sample = sample;
      this.selected = null;
    },
    step(by) {
      const k = this.items.indexOf(this.sample);
      this.show(this.items[Math.min(this.items.length - 1, Math.max(0, k + by))]);
    },
    nextOpen() {
      const k = this.items.indexOf(this.sample);
      const rest = [...this.items.slice(k + 1), ...this.items.slice(0, k)];
      const next = rest.find((i) => !this.isDecided(i));
      if (next !== undefined) this.show(next);
    },
    make(ops) {
      this.board.make(ops);
      this.clock += 1;
    },
    put(box) {
      if (!box.c) return (this.trouble = "Name a concept first");
      this.make([{ do: "put", image: this.sample, ...box }]);
      this.grasp(box.id);
    },
    grasp(id) {
      this.selected = id;
      this.nudging = false;
    },
    fresh(b) {
      const id = Math.random().toString(36).slice(2, 10) + Date.now().toString(36);
      return { do: "put", image: this.sample, id, c: this.concept, b };
    },
    add() {
      const boxes = Object.values(this.board.view).flatMap((r) => r.boxes.filter((box) => box.c === this.concept));
      const last = boxes.at(-1)?.b || [0, 0, this.size / 3, this.size / 3];
      const [w, h] = [(last[2] - last[0]) / 2, (last[3] - last[1]) / 2];
      const middle = this.size / 2;
      const op = this.fresh([middle - w, middle - h, middle + w, middle + h].map((v) => Math.round(v * 2) / 2));
      this.make([op]);
      this.selected = op.id;
      this.nudging = true; // a box chosen by key is moved by keys; after one drawn by hand they go to the next sample
    },
    cut() {
      if (!this.selected) return;
      this.make([{ do: "cut", image: this.sample, id: this.selected }]);
      this.selected = null;
    },
    none() {
      if (!this.concept || this.has) return;
      this.make([{ do: "lacks", image: this.sample, c: this.concept, on: !this.lacks }]);
      if (this.lacks) this.nextOpen();
    },
    accept(boxes) {
      const ops = boxes.map((b) => this.fresh(b));
      this.make(ops);
      this.selected = ops.at(-1)?.id || null;
    },
    acceptAll() {
      if (this.offered.length) this.accept(this.offered);
      else if (this.acceptable) this.make([{ do: "lacks", image: this.sample, c: this.concept, on: true }]);
      this.nextOpen();
    },
    undo() {
      const at = this.board.undo();
      this.clock += 1;
      if (at !== null) this.show(at);
    },
    redo() {
      const at = this.board.redo();
      this.clock += 1;
      if (at !== null) this.show(at);
    },
    choose() {
      const ids = this.record.boxes.map((box) => box.id);
      if (!ids.length) return;
      this.selected = ids[(ids.indexOf(this.selected) + 1) % ids.length];
      this.nudging = true;
    },
    nudge([dx, dy], resize) {
      const box = this.record.boxes.find((b) => b.id === this.selected);
      let [x0, y0, x1, y1] = box.b;
      if (resize) [x1, y1] = [Math.min(this.size, Math.max(x0 + 1, x1 + dx)), Math.min(this.size, Math.max(y0 + 1, y1 + dy))];
      else {
        dx = Math.min(this.size - x1, Math.max(-x0, dx));
        dy = Math.min(this.size - y1, Math.max(-y0, dy));
        [x0, y0, x1, y1] = [x0 + dx, y0 + dy, x1 + dx, y1 + dy];
      }
      this.make([{ do: "put", image: this.sample, id: box.id, c: box.c, b: [x0, y0, x1, y1] }]);
    },
  },
};
