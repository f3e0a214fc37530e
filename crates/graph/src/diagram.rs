//! Pictures of graphs: drawn, or as text that other programs draw.

mod svg;

use std::fmt::Write as _;

use crate::build::{Graph, Node, NodeKind};

pub use svg::svg;

/// For Mermaid (GitHub renders it): arrows lead from a resource to those that need it.
pub fn mermaid(graph: &Graph) -> String {
    let mut text = String::from("flowchart TD\n");
    let _ = writeln!(text, "  schema([\"{}\"])", graph.schema.kind);
    for node in &graph.nodes {
        let label = label(node, "<br/>");
        let shape = match node.kind {
            NodeKind::Resource => format!("[\"{label}\"]"),
            NodeKind::Collection => format!("[[\"{label}\"]]"),
            NodeKind::External => format!("{{{{\"{label}\"}}}}"),
            NodeKind::ExternalCollection => format!("[/\"{label}\"/]"),
            NodeKind::Variable | NodeKind::VariableList => format!("(\"{label}\")"),
            NodeKind::Patch | NodeKind::PatchCollection => format!(">\"{label}\"]"),
        };
        let _ = writeln!(text, "  {}{shape}", node.id);
    }
    for edge in edges(graph) {
        let arrow = match edge.kind {
            EdgeKind::Always => "-->",
            EdgeKind::Conditional => "-.->",
            EdgeKind::Later => "-. later .->",
        };
        let (from, to) = (edge.source(graph), &graph.nodes[edge.to].id);
        let _ = writeln!(text, "  {from} {arrow} {to}");
    }
    text
}

/// For Graphviz.
pub fn dot(graph: &Graph) -> String {
    let mut text = String::from("digraph {\n  rankdir=TB;\n  node [shape=box];\n");
    let _ = writeln!(
        text,
        "  schema [label=\"{}\", shape=ellipse];",
        graph.schema.kind
    );
    for node in &graph.nodes {
        let style = match node.kind {
            NodeKind::Resource => "",
            NodeKind::Collection => ", peripheries=2",
            NodeKind::External | NodeKind::ExternalCollection => ", style=dashed",
            NodeKind::Variable | NodeKind::VariableList => ", style=rounded",
            NodeKind::Patch | NodeKind::PatchCollection => ", style=dashed, shape=component",
        };
        let _ = writeln!(
            text,
            "  {} [label=\"{}\"{style}];",
            node.id,
            label(node, "\\n")
        );
    }
    for edge in edges(graph) {
        let style = match edge.kind {
            EdgeKind::Always => "",
            EdgeKind::Conditional => " [style=dashed]",
            EdgeKind::Later => " [style=dotted, label=later, constraint=false]",
        };
        let (from, to) = (edge.source(graph), &graph.nodes[edge.to].id);
        let _ = writeln!(text, "  {from} -> {to}{style};");
    }
    text.push_str("}\n");
    text
}

/// An arrow to a resource, from one it needs.
struct Edge {
    /// The instance where it is none.
    from: Option<usize>,
    to: usize,
    kind: EdgeKind,
}

#[derive(Clone, Copy)]
enum EdgeKind {
    Always,
    /// What it leads to may be left out.
    Conditional,
    /// What it leads to is made before, and filled in.
    Later,
}

impl Edge {
    fn source<'g>(&self, graph: &'g Graph) -> &'g str {
        self.from.map_or("schema", |from| &graph.nodes[from].id)
    }
}

/// The arrows; what needs no other resource hangs on the instance.
fn edges(graph: &Graph) -> Vec<Edge> {
    let mut edges = Vec::new();
    for (to, node) in graph.nodes.iter().enumerate() {
        let kind = if node.include_when.is_empty() {
            EdgeKind::Always
        } else {
            EdgeKind::Conditional
        };
        let mut add = |from: Option<usize>, kind| edges.push(Edge { from, to, kind });
        if node.dependencies.is_empty() {
            add(None, kind);
        }
        for dependency in &node.dependencies {
            add(Some(*dependency), kind);
        }
        for later in &node.soft_dependencies {
            add(Some(*later), EdgeKind::Later);
        }
    }
    edges
}

fn label(node: &Node, line_break: &str) -> String {
    let mut label = format!("{}{line_break}{}", node.id, node.resource.kind);
    for note in node.handling.notes() {
        // Quotes would end the label, and to Mermaid it is HTML with its own way of writing characters.
        let note = note.replace('"', "'");
        let note = if line_break == "\\n" {
            note.replace('\\', "\\\\")
        } else {
            note.replace('<', "#lt;").replace('>', "#gt;")
        };
        let _ = write!(label, "{line_break}({note})");
    }
    label
}
