// Where `progrpo watch` serves the page: reloads it when there is a newer one, and keeps the place of the reader. Nothing is
// reloaded that has not changed, nor while the page lies in the background.
{
  const PERIOD_MS = 2000;
  const KEPT = "progrpo-watch";
  const shown = document.documentElement.dataset.version;
  const banner = document.getElementById("error");
  let gone = false;

  const choices = () => [...document.querySelectorAll("select[id]")];
  const opened = () => [...document.querySelectorAll("details")];

  function keep() {
    const kept = {
      x: scrollX,
      y: scrollY,
      open: opened().map((one) => one.open),
      chosen: Object.fromEntries(choices().map((one) => [one.id, one.value])),
    };
    sessionStorage.setItem(KEPT, JSON.stringify(kept));
  }

  function restore() {
    const text = sessionStorage.getItem(KEPT);
    sessionStorage.removeItem(KEPT);
    if (text === null) return;
    const kept = JSON.parse(text);
    opened().forEach((one, place) => (one.open = kept.open[place] ?? one.open));
    for (const one of choices()) {
      const value = kept.chosen[one.id];
      if ([...one.options].some((option) => option.value === value) && value !== one.value) {
        one.value = value;
        one.dispatchEvent(new Event("change", { bubbles: true }));
      }
    }
    scrollTo({ left: kept.x, top: kept.y, behavior: "instant" });
  }

  function say(text) {
    gone = text !== "";
    banner.textContent = text;
    banner.hidden = !gone;
  }

  async function look() {
    if (document.hidden) return;
    let version;
    try {
      const answer = await fetch("version", { cache: "no-store" });
      if (!answer.ok) throw new Error(`status ${answer.status}`);
      version = await answer.text();
    } catch {
      say("progrpo watch does not answer: the page stays as it is.");
      return;
    }
    if (gone) say("");
    if (version !== shown) {
      keep();
      location.reload();
    }
  }

  history.scrollRestoration = "manual";
  restore();
  setInterval(look, PERIOD_MS);
  document.addEventListener("visibilitychange", look);
}
