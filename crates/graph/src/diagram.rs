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
    for node in &graph.nodes {
        let arrow = if node.include_when.is_empty() {
            "-->"
        } else {
            "-.->"
        };
        if node.dependencies.is_empty() {
            let _ = writeln!(text, "  schema {arrow} {}", node.id);
        }
        for dependency in &node.dependencies {
            let _ = writeln!(
                text,
                "  {} {arrow} {}",
                graph.nodes[*dependency].id, node.id
            );
        }
        for later in &node.soft_dependencies {
            let _ = writeln!(
                text,
                "  {} -. later .-> {}",
                graph.nodes[*later].id, node.id
            );
        }
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
    for node in &graph.nodes {
        let style = if node.include_when.is_empty() {
            ""
        } else {
            " [style=dashed]"
        };
        if node.dependencies.is_empty() {
            let _ = writeln!(text, "  schema -> {}{style};", node.id);
        }
        for dependency in &node.dependencies {
            let _ = writeln!(
                text,
                "  {} -> {}{style};",
                graph.nodes[*dependency].id, node.id
            );
        }
        for later in &node.soft_dependencies {
            let _ = writeln!(
                text,
                "  {} -> {} [style=dotted, label=later, constraint=false];",
                graph.nodes[*later].id, node.id
            );
        }
    }
    text.push_str("}\n");
    text
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
