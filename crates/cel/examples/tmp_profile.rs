//! tmp
#[path = "bench/suite.rs"]
mod suite;
use cel::*;
fn main() {
    println!(
        "Value {} Result {} Str {} List {} Map {} Object {} Type {}",
        size_of::<Value>(),
        size_of::<Result<Value, EvalError>>(),
        size_of::<Str>(),
        size_of::<List>(),
        size_of::<Map>(),
        size_of::<Object>(),
        size_of::<Type>()
    );
    let object = suite::object();
    let env = Env::standard()
        .extend()
        .variable("self", Type::Dyn)
        .build()
        .unwrap();
    let mut a = Activation::new();
    a.bind_json("self", &object);
    for s in [
        "1",
        "self",
        "self.spec",
        "self.spec.replicas",
        "self.spec.replicas >= 0",
        "self.spec.replicas >= 0 && self.spec.replicas <= 100",
        "has(self.status.readyReplicas)",
        "self.metadata.name.startsWith('web')",
        "self.metadata.namespace + '/' + self.metadata.name",
        "self.status.conditions.exists(c, c.type == 'Ready')",
        "self.status.conditions.exists(c, true)",
        "[1,2,3].exists(c, false)",
    ] {
        let p = env.compile(s).unwrap();
        println!("{:8.1} {s}", suite::nanoseconds(|| p.eval(&a).is_ok()));
    }
    let m = object.as_object().unwrap();
    println!(
        "{:8.1} raw 2 lookups",
        suite::nanoseconds(|| std::hint::black_box(m)
            .get(std::hint::black_box("spec"))
            .unwrap()
            .as_object()
            .unwrap()
            .get(std::hint::black_box("replicas")))
    );
}
