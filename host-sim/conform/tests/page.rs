//! The page and the data say the same.

use host_sim_conform::Explained;

#[test]
fn the_page_lists_every_difference_that_is_meant_and_no_other() {
    let page = include_str!("../../README.md");
    let (_, rest) = page.split_once("| cells | why they differ |\n|---|---|\n").expect("the table");
    let shown: Vec<_> = rest.lines().take_while(|line| line.starts_with('|')).collect();
    let explained = Explained::built_in();
    let rows: Vec<_> = explained
        .rows()
        .iter()
        .map(|row| format!("| `{}` | {} |", row.cells, row.reason))
        .collect();
    assert_eq!(shown, rows);
}
