//! A drawing that needs no other program: one row per distance from the instance, arrows downwards.

use std::fmt::Write as _;

use super::{EdgeKind, edges};
use crate::build::Graph;

/// Of the boxes, unless a name needs more.
const BOX_WIDTH_MIN: usize = 180;
/// Of a bold letter, about.
const LETTER_WIDTH: usize = 8;
const BOX_HEIGHT: usize = 48;
const GAP_ACROSS: usize = 30;
const GAP_DOWN: usize = 56;
/// Arrows between the sides of boxes bend into it.
const MARGIN: usize = 28;

/// A box and where it stands.
struct Place {
    row: usize,
    x: usize,
    y: usize,
    width: usize,
}

impl Place {
    fn middle(&self) -> usize {
        self.x + self.width / 2
    }
}

/// As SVG.
pub fn svg(graph: &Graph) -> String {
    let rows = rows(graph);
    let widest = rows.iter().map(Vec::len).max().unwrap_or(1).max(1);
    let box_width = box_width(graph);
    let width = MARGIN * 2 + widest * box_width + (widest - 1) * GAP_ACROSS;
    let height = MARGIN * 2 + (rows.len() + 1) * BOX_HEIGHT + rows.len() * GAP_DOWN;
    let places = places(graph, &rows, width, box_width);
    let schema = Place {
        row: 0,
        x: (width - box_width) / 2,
        y: MARGIN,
        width: box_width,
    };
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
         height=\"{height}\" font-family=\"sans-serif\" font-size=\"13\" text-anchor=\"middle\">\n\
         <defs><marker id=\"arrow\" viewBox=\"0 0 8 8\" refX=\"8\" refY=\"4\" markerWidth=\"8\" markerHeight=\"8\" \
         orient=\"auto\"><path d=\"M0 0 8 4 0 8z\" fill=\"#57606a\"/></marker></defs>\n"
    );
    for edge in edges(graph) {
        let from = edge.from.map_or(&schema, |from| &places[from]);
        let to = &places[edge.to];
        match edge.kind {
            EdgeKind::Always => arrow(&mut text, from, to, ""),
            EdgeKind::Conditional => arrow(&mut text, from, to, " stroke-dasharray=\"5 4\""),
            EdgeKind::Later => arrow_aside(&mut text, from, to),
        }
    }
    draw(&mut text, &schema, "instance", &graph.schema.kind, 24, "");
    for (node, place) in graph.nodes.iter().zip(&places) {
        let round = if node.kind.is_variable() { 16 } else { 4 };
        let is_foreign = !node.kind.is_ours() && !node.kind.is_variable();
        let dashes = if is_foreign {
            " stroke-dasharray=\"5 4\""
        } else {
            ""
        };
        if node.kind.is_list() || node.kind.is_repeated() {
            let behind = Place {
                x: place.x + 5,
                y: place.y + 5,
                ..*place
            };
            draw(&mut text, &behind, "", "", round, dashes);
        }
        // Shown while the pointer is there.
        let notes = escaped(&node.handling.notes().join("\n"));
        if !notes.is_empty() {
            let _ = writeln!(text, "<g><title>{notes}</title>");
        }
        draw(
            &mut text,
            place,
            &node.id,
            &node.resource.kind,
            round,
            dashes,
        );
        if !notes.is_empty() {
            text.push_str("</g>\n");
        }
    }
    text.push_str("</svg>\n");
    text
}

/// The resources by their distance from the instance.
fn rows(graph: &Graph) -> Vec<Vec<usize>> {
    let mut distance = vec![0; graph.nodes.len()];
    let mut rows: Vec<Vec<usize>> = Vec::new();
    for node in graph.order.iter().copied() {
        let before = graph.nodes[node].dependencies.iter();
        let row = before.map(|other| distance[*other] + 1).max().unwrap_or(0);
        distance[node] = row;
        if rows.len() <= row {
            rows.resize_with(row + 1, Vec::new);
        }
        rows[row].push(node);
    }
    rows
}

/// So that every name fits.
fn box_width(graph: &Graph) -> usize {
    let nodes = graph.nodes.iter();
    let names = nodes.flat_map(|node| [node.id.as_str(), &node.resource.kind]);
    let names = names.chain([graph.schema.kind.as_str()]);
    let longest = names.map(|name| name.chars().count()).max().unwrap_or(0);
    BOX_WIDTH_MIN.max((longest + 4) * LETTER_WIDTH)
}

fn places(graph: &Graph, rows: &[Vec<usize>], width: usize, box_width: usize) -> Vec<Place> {
    let nowhere = || Place {
        row: 0,
        x: 0,
        y: 0,
        width: box_width,
    };
    let mut places: Vec<Place> = graph.nodes.iter().map(|_| nowhere()).collect();
    for (row, nodes) in rows.iter().enumerate() {
        let row_width = nodes.len() * (box_width + GAP_ACROSS) - GAP_ACROSS;
        let left = (width - row_width) / 2;
        for (position, node) in nodes.iter().enumerate() {
            places[*node] = Place {
                row: row + 1,
                x: left + position * (box_width + GAP_ACROSS),
                y: MARGIN + (row + 1) * (BOX_HEIGHT + GAP_DOWN),
                width: box_width,
            };
        }
    }
    places
}

/// An arrow from the bottom of one box to the top of another; it bends around the rows in between.
fn arrow(text: &mut String, from: &Place, to: &Place, dashes: &str) {
    let (x1, y1) = (from.middle(), from.y + BOX_HEIGHT);
    let (x2, y2) = (to.middle(), to.y);
    let bend = GAP_DOWN * (to.row - from.row);
    let _ = writeln!(
        text,
        "<path d=\"M{x1} {y1}C{x1} {} {x2} {} {x2} {y2}\" fill=\"none\" stroke=\"#57606a\"{dashes} \
         marker-end=\"url(#arrow)\"/>",
        y1 + bend / 2,
        y2.saturating_sub(bend / 2),
    );
}

/// A dotted arrow between the right sides of two boxes, in either direction.
fn arrow_aside(text: &mut String, from: &Place, to: &Place) {
    let side = |place: &Place| (place.x + place.width, place.y + BOX_HEIGHT / 2);
    let ((x1, y1), (x2, y2)) = (side(from), side(to));
    let _ = writeln!(
        text,
        "<path d=\"M{x1} {y1}C{} {y1} {} {y2} {x2} {y2}\" fill=\"none\" stroke=\"#57606a\" stroke-dasharray=\"2 4\" \
         marker-end=\"url(#arrow)\"/>",
        x1 + GAP_ACROSS,
        x2 + GAP_ACROSS,
    );
}

fn draw(text: &mut String, place: &Place, name: &str, kind: &str, round: usize, dashes: &str) {
    let Place { x, y, width, .. } = place;
    let _ = writeln!(
        text,
        "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{BOX_HEIGHT}\" rx=\"{round}\" fill=\"#f6f8fa\" \
         stroke=\"#57606a\"{dashes}/>"
    );
    if kind.is_empty() {
        return;
    }
    let middle = place.middle();
    let _ = writeln!(
        text,
        "<text x=\"{middle}\" y=\"{}\" font-weight=\"bold\">{}</text>\n<text x=\"{middle}\" y=\"{}\">{}</text>",
        y + 20,
        escaped(name),
        y + 37,
        escaped(kind),
    );
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}
