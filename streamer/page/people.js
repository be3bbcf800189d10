// The faces in the cartoon: over each lies a list that says how it is drawn, for finger, mouse and keyboard.

export const spoken = (group) =>
  group === "auto" ? "Automatic" : (group[0].toUpperCase() + group.slice(1)).replaceAll("-", " ");

const MOST_CHOICES = 50; // the newest ones; a track's number is never given to somebody else
const percent = (share) => `${(100 * share).toFixed(2)}%`;
const within = (share) => Math.min(1, Math.max(0, share));

export class People {
  /** `layer`: an element as large as the picture; `changed()`: somebody chose. */
  constructor(layer, changed) {
    this.layer = layer;
    this.changed = changed;
    this.groups = [];
    this.lists = new Map(); // by track
    this.chosen = {};
  }

  /** What was chosen for single faces: {track: group or "auto"}; the others are drawn as everyone. */
  get choices() {
    return Object.fromEntries(Object.entries(this.chosen).slice(-MOST_CHOICES));
  }

  /** Lay a list over each face of a report, {track, box, group, by_hand}; a face without a group is hidden. */
  show(faces, mirrored) {
    const drawn = this.groups.length > 1 ? faces.filter(({ group }) => group) : [];
    for (const track of [...this.lists.keys()]) if (!drawn.some((face) => face.track === track)) this.#remove(track);
    const fromLeft = ({ box }) => (mirrored ? -box[2] : box[0]);
    drawn.sort((one, other) => fromLeft(one) - fromLeft(other)).forEach((face, place, all) => {
      const { label, tag, select } = this.lists.get(face.track) ?? this.#add(face.track);
      const [left, top, right, bottom] = face.box.map(within);
      for (const [name, share] of Object.entries({ left, top, width: right - left, height: bottom - top }))
        label.style.setProperty(`--${name}`, percent(share));
      label.classList.toggle("by-hand", face.by_hand);
      tag.textContent = spoken(face.group);
      const which = all.length > 1 ? `Face ${place + 1} of ${all.length} from the left` : "The face in the picture";
      select.setAttribute("aria-label", `${which}, drawn as ${spoken(face.group)}`);
    });
  }

  /** Forget every face and what was chosen. */
  clear() {
    for (const track of [...this.lists.keys()]) this.#remove(track);
    this.chosen = {};
  }

  #add(track) {
    const label = Object.assign(document.createElement("label"), { className: "person" });
    const tag = document.createElement("span");
    const select = document.createElement("select");
    select.append(new Option("As everyone", ""));
    select.append(...["auto", ...this.groups].map((group) => new Option(spoken(group), group)));
    select.value = this.chosen[track] ?? "";
    select.addEventListener("change", () => {
      if (select.value) this.chosen[track] = select.value;
      else delete this.chosen[track];
      this.changed();
    });
    label.append(select, tag);
    this.layer.append(label);
    const list = { label, tag, select };
    this.lists.set(track, list);
    return list;
  }

  #remove(track) {
    this.lists.get(track).label.remove();
    this.lists.delete(track);
  }
}
