for (const box of document.querySelectorAll("input[data-finds]")) {
  const section = document.getElementById(box.dataset.finds);
  const folded = section.querySelector("details");
  box.parentElement.hidden = false;
  box.addEventListener("input", () => {
    const wanted = box.value.trim().toLocaleLowerCase();
    if (folded) folded.open = wanted !== "";
    for (const row of section.querySelectorAll("tr[data-label]")) {
      row.hidden = !row.dataset.label.toLocaleLowerCase().includes(wanted);
    }
  });
}
