// The keys of the first part of the page, for whoever marks without a mouse, or fast.

const PRESSED = "button, a, label, [role=switch], [role=checkbox], input[type=checkbox]"; // take Enter and Space themselves
const SKIPPED = "input:not([type=checkbox]), textarea, select, [role=tab], [role=slider], [role=listbox]:not(.pr-grid), .q-dialog, .q-menu";

// prettier-ignore
const KEYS = [
  ["← → ↑ ↓", "another sample"], ["S", "choose the next box: arrows move it, with Shift resize it"],
  ["B", "new box, chosen likewise"], ["Del", "delete it"], ["Esc", "choose none"],
  ["N", "no such object here; next"], ["Enter", "accept what is proposed; next"], ["Space", "next undecided sample"],
  ["1 … 9", "concept"], ["Ctrl Z, Ctrl Y", "undo, redo"],
];

export default {
  data: () => ({ keys: KEYS }),
  mounted() {
    this.onKey = this.key.bind(this);
    window.addEventListener("keydown", this.onKey);
    window.addEventListener("click", this.release, true); // a switch keeps its clicks to itself
  },
  unmounted() {
    window.removeEventListener("keydown", this.onKey);
    window.removeEventListener("click", this.release, true);
  },
  methods: {
    // After a click on a button the keys are the samples' again; whoever came to it by keyboard stays there.
    release(event) {
      if (event.detail) setTimeout(() => document.activeElement?.closest(PRESSED) && document.activeElement.blur());
    },
    key(event) {
      if (!this.$el.offsetParent || event.target.closest?.(SKIPPED)) return; // another tab of the page, or a field
      if (event.target.closest?.(PRESSED) && (event.key === "Enter" || event.key === " ")) return;
      if ((event.ctrlKey || event.metaKey) && /^[zy]$/i.test(event.key)) {
        event.preventDefault();
        event.key.toLowerCase() === "y" || event.shiftKey ? this.redo() : this.undo();
        return;
      }
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
      const done = event.key in arrows ? this.arrow(arrows[event.key], event.shiftKey) : this.letter(event.key);
      if (done !== false) event.preventDefault();
    },
    arrow([dx, dy], shift) {
      if (this.nudging && this.record.boxes.some((box) => box.id === this.selected)) this.nudge([dx, dy], shift);
      else this.step(dx + dy * this.$refs.grid.columns);
    },
    letter(key) {
      const does = {
        s: this.choose, b: this.add, n: this.none, delete: this.cut, backspace: this.cut, enter: this.acceptAll, " ": this.nextOpen,
        escape: () => (this.selected = null), "?": () => (this.help = !this.help),
      }[key.toLowerCase()]; // prettier-ignore
      if (/^[1-9]$/.test(key) && this.known[key - 1]) this.take(this.known[key - 1].id);
      else if (does && (this.concept || key === "?")) does();
      else return false;
    },
  },
};
