// A legend entry hides and shows its arm, or the bars; a mark says that a table goes on. All else works without script.
document.documentElement.classList.add("scripted");
for (const button of document.querySelectorAll("[data-toggle], [data-intervals]")) {
  button.addEventListener("click", () => {
    const shown = button.getAttribute("aria-pressed") === "false";
    button.setAttribute("aria-pressed", shown);
    const marks = "toggle" in button.dataset ? `[data-arm="${button.dataset.toggle}"]` : ".interval";
    for (const mark of button.closest(".switched").querySelectorAll(marks)) mark.classList.toggle("off", !shown);
  });
}
for (const box of document.querySelectorAll(".scroll")) {
  const mark = () => box.classList.toggle("more", box.scrollLeft + box.clientWidth + 2 < box.scrollWidth);
  box.addEventListener("scroll", mark);
  new ResizeObserver(mark).observe(box);
}
