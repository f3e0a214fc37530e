//! Scores of nodes by resources, images, taints and wishes. Pure.

use super::node_info::{Node, NodeInfo};
use super::pod_info::PodInfo;
use super::profile::{FitStrategy, Profile, WeightedResource};
use super::world::World;
use crate::taints::{self, Effect, Toleration};
use model::object;

/// The best score a plugin gives.
pub const MAX_SCORE: i64 = 100;

/// What is used of a resource with the Pod, without it, and what there is.
struct Use {
    with: i64,
    without: i64,
    there: i64,
}

fn used(info: &NodeInfo, node: &Node, pod: &PodInfo, resource: &str, assume: bool) -> Use {
    let there = node.allocatable.amounts.get(resource);
    let (without, own) = match resource {
        "cpu" if assume => (info.cpu_assumed, pod.requests.cpu_assumed),
        "memory" if assume => (info.memory_assumed, pod.requests.memory_assumed),
        _ => (
            info.requested.get(resource),
            pod.requests.exact.get(resource),
        ),
    };
    Use {
        with: without.saturating_add(own),
        without,
        there,
    }
}

/// `NodeResourcesFit`: how full the node is with the Pod.
pub fn fit(info: &NodeInfo, node: &Node, pod: &PodInfo, profile: &Profile) -> i64 {
    let (mut sum, mut weights) = (0, 0);
    for resource in &profile.fit_resources {
        let used = used(info, node, pod, &resource.name, true);
        // A node without it, or a Pod that does not ask for something special.
        if used.there == 0 {
            continue;
        }
        let score = match &profile.fit {
            FitStrategy::LeastAllocated if used.with > used.there => 0,
            FitStrategy::LeastAllocated => (used.there - used.with) * MAX_SCORE / used.there,
            FitStrategy::MostAllocated => used.with.min(used.there) * MAX_SCORE / used.there,
            FitStrategy::RequestedToCapacityRatio(shape) => {
                let percent = if used.with > used.there {
                    100
                } else {
                    used.with * 100 / used.there
                };
                on_line(shape, percent) * (MAX_SCORE / 10)
            }
        };
        let counts_zero = !matches!(profile.fit, FitStrategy::RequestedToCapacityRatio(_));
        if counts_zero || score > 0 {
            sum += score * resource.weight;
            weights += resource.weight;
        }
    }
    match (&profile.fit, weights) {
        (_, 0) => 0,
        (FitStrategy::RequestedToCapacityRatio(_), _) => {
            (sum as f64 / weights as f64).round() as i64
        }
        _ => sum / weights,
    }
}

/// The value of a line through points, at `x`.
fn on_line(points: &[(i64, i64)], x: i64) -> i64 {
    let Some(next) = points.iter().position(|(at, _)| x <= *at) else {
        return points.last().map_or(0, |(_, value)| *value);
    };
    let (to, to_value) = points[next];
    if next == 0 {
        return to_value;
    }
    let (from, from_value) = points[next - 1];
    from_value + (to_value - from_value) * (x - from) / (to - from).max(1)
}

/// `NodeResourcesBalancedAllocation`: whether the Pod makes the use of resources more alike; `None`
/// for Pods that ask for nothing.
pub fn balance(
    info: &NodeInfo,
    node: &Node,
    pod: &PodInfo,
    resources: &[WeightedResource],
) -> Option<i64> {
    let asked = resources
        .iter()
        .any(|resource| pod.requests.exact.get(&resource.name) > 0);
    if !asked {
        return None;
    }
    let used: Vec<Use> = resources
        .iter()
        .map(|resource| used(info, node, pod, &resource.name, false))
        .filter(|used| used.there > 0)
        .collect();
    let share = |amount: i64, used: &Use| (amount as f64 / used.there as f64).min(1.0);
    let with: Vec<f64> = used.iter().map(|used| share(used.with, used)).collect();
    let without: Vec<f64> = used.iter().map(|used| share(used.without, used)).collect();
    Some(MAX_SCORE / 2 + (MAX_SCORE / 2 + evenness(&with) - evenness(&without)) / 2)
}

fn evenness(shares: &[f64]) -> i64 {
    let deviation = match shares {
        [] | [_] => 0.0,
        [a, b] => ((a - b) / 2.0).abs(),
        _ => {
            let count = shares.len() as f64;
            let mean = shares.iter().sum::<f64>() / count;
            let squares: f64 = shares.iter().map(|share| (share - mean).powi(2)).sum();
            (squares / count).sqrt()
        }
    };
    ((1.0 - deviation) * MAX_SCORE as f64) as i64
}

/// `ImageLocality`: how much of the Pod's images the node has already.
pub fn images(node: &Node, pod: &PodInfo, world: &World, nodes: usize) -> i64 {
    const MIB: i64 = 1024 * 1024;
    /// Less is not worth a detour.
    const LEAST: i64 = 23 * MIB;
    const MOST_EACH: i64 = 1000 * MIB;
    if node.images.is_empty() {
        return 0;
    }
    let spec = pod.object.spec();
    let mut containers = 0;
    let mut sum = 0;
    let mut add = |image: &str| {
        let name = with_tag(image);
        if let Some(size) = node.images.get(&name) {
            // An image that few have must not draw every Pod there.
            let spread = world.nodes_with_image(&name) as f64 / nodes.max(1) as f64;
            sum += (*size as f64 * spread) as i64;
        }
    };
    for list in ["initContainers", "containers"] {
        for container in object::list(spec, &[list]) {
            containers += 1;
            add(object::text(container, &["image"]));
        }
    }
    for volume in pod.volumes() {
        let reference = object::text(volume, &["image", "reference"]);
        if !reference.is_empty() {
            add(reference);
        }
    }
    let most = MOST_EACH * containers.max(1);
    MAX_SCORE * (sum.clamp(LEAST, most) - LEAST) / (most - LEAST)
}

/// An image name with its tag.
fn with_tag(image: &str) -> String {
    if image.rfind(':') <= image.rfind('/') {
        return format!("{image}:latest");
    }
    image.to_owned()
}

/// `TaintToleration`: how many taints that only advise the Pod does not tolerate.
pub fn intolerable(node: &Node, tolerations: &[Toleration]) -> i64 {
    let advises = |taint: &&taints::Taint| taint.effect == Effect::PreferNoSchedule;
    let own = |one: &&Toleration| one.is_for_preferences();
    let untolerated = |taint: &&taints::Taint| {
        !tolerations
            .iter()
            .filter(own)
            .any(|one| one.tolerates(taint))
    };
    node.taints
        .iter()
        .filter(advises)
        .filter(untolerated)
        .count() as i64
}

/// Scales scores so that the highest is the best score; or the worst, when reversed.
pub fn normalize(raw: &mut [i64], reverse: bool) {
    let most = raw.iter().copied().max().unwrap_or(0);
    for score in raw.iter_mut() {
        let scaled = if most == 0 {
            0
        } else {
            MAX_SCORE * *score / most
        };
        *score = if reverse { MAX_SCORE - scaled } else { scaled };
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use controller::Object;
    use serde_json::json;

    fn node(cpu: &str, memory: &str) -> Node {
        Node::new(Arc::new(Object::new(json!({
            "metadata": {"name": "n"},
            "status": {"allocatable": {"cpu": cpu, "memory": memory, "pods": "10"}},
        }))))
    }

    fn pod(cpu: &str, memory: &str) -> PodInfo {
        PodInfo::new(Arc::new(Object::new(
            json!({"metadata": {"name": "p", "uid": "u"},
            "spec": {"containers": [
                {"image": "i", "resources": {"requests": {"cpu": cpu, "memory": memory}}}]}}),
        )))
    }

    #[test]
    fn emptier_nodes_are_better_unless_told_otherwise() {
        let (node, pod) = (node("4", "4000Mi"), pod("1", "2000Mi"));
        let mut profile = Profile::default();
        let score = |profile: &Profile| fit(&NodeInfo::default(), &node, &pod, profile);
        assert_eq!(score(&profile), i64::midpoint(75, 50));
        profile.fit = FitStrategy::MostAllocated;
        assert_eq!(score(&profile), i64::midpoint(25, 50));
        profile.fit = FitStrategy::RequestedToCapacityRatio(vec![(0, 0), (100, 10)]);
        assert_eq!(score(&profile), 35);
    }

    #[test]
    fn a_pod_that_evens_out_use_is_welcome() {
        let node = node("10", "10Gi");
        let mut info = NodeInfo::default();
        info.add(Arc::new(pod("5", "1Gi")));
        let resources = Profile::default().balanced_resources;
        let even = balance(&info, &node, &pod("0", "4Gi"), &resources);
        let uneven = balance(&info, &node, &pod("4", "0"), &resources);
        assert_eq!((even, uneven), (Some(85), Some(65)));
        assert_eq!(balance(&info, &node, &pod("0", "0"), &resources), None);
    }

    #[test]
    fn lines_are_followed() {
        let check = |points: &[(i64, i64)], x: i64, expect: i64| {
            assert_eq!(on_line(points, x), expect, "{points:?} {x}");
        };
        check(&[(0, 10), (100, 0)], 30, 7);
        check(&[(20, 2), (40, 8)], 10, 2);
        check(&[(20, 2), (40, 8)], 30, 5);
        check(&[(20, 2), (40, 8)], 90, 8);
    }

    #[test]
    fn images_have_tags() {
        assert_eq!(with_tag("a/b"), "a/b:latest");
        assert_eq!(with_tag("host:5000/b"), "host:5000/b:latest");
        assert_eq!(with_tag("a/b:1"), "a/b:1");
    }

    #[test]
    fn scores_are_scaled() {
        let check = |mut raw: Vec<i64>, reverse: bool, expect: &[i64]| {
            normalize(&mut raw, reverse);
            assert_eq!(raw, expect);
        };
        check(vec![0, 1, 4], false, &[0, 25, 100]);
        check(vec![0, 1, 4], true, &[100, 75, 0]);
        check(vec![0, 0], true, &[100, 100]);
        check(vec![0, 0], false, &[0, 0]);
    }
}
