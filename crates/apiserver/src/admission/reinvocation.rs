//! Asking again: a policy or webhook that wants to see what others changed after it is asked once more.
//!
//! Where one of them has changed the object, all plugins get a second turn. In it the built-in ones do
//! what they always do, and of the others only those that were asked before a change and want to know.

use std::collections::BTreeSet;

use parking_lot::Mutex;
use serde_json::Value;

/// What one write remembers from the first turn.
#[derive(Default)]
pub struct Reinvocation(Mutex<State>);

#[derive(Default)]
struct State {
    /// Whether a second turn is wanted, and whether this is it.
    wanted: bool,
    again: bool,
    policies: Turns,
    webhooks: Turns,
}

/// Who is to be asked again.
#[derive(Default)]
struct Turns {
    /// Asked, want to know of changes, and there was none since.
    waiting: BTreeSet<String>,
    /// To be asked again.
    due: BTreeSet<String>,
    /// The object as the last of them left it.
    left: Option<Value>,
}

impl Turns {
    fn changed(&mut self) {
        self.due.append(&mut self.waiting);
    }
}

impl Reinvocation {
    /// Begins the second turn, where one is wanted; there is no third.
    pub fn begin_again(&self) -> bool {
        let mut state = self.0.lock();
        state.again = state.wanted;
        state.again
    }

    /// Begins with the policies; tells whether this is the second turn.
    pub fn begin_policies(&self, object: &Value) -> bool {
        let state = &mut *self.0.lock();
        begin(state.again, &mut state.policies, object)
    }

    /// Whether this policy is to be asked in the second turn.
    pub fn wants_policy(&self, key: &str) -> bool {
        self.0.lock().policies.due.contains(key)
    }

    /// A policy has changed the object.
    pub fn policy_changed(&self) {
        let state = &mut *self.0.lock();
        state.policies.changed();
        state.wanted = true;
    }

    /// This policy wants to know what is changed after it.
    pub fn remember_policy(&self, key: String) {
        self.0.lock().policies.waiting.insert(key);
    }

    /// The policies are done.
    pub fn end_policies(&self, object: &Value) {
        self.0.lock().policies.left = Some(object.clone());
    }

    /// Begins with the webhooks; tells whether this is the second turn.
    pub fn begin_webhooks(&self, object: &Value) -> bool {
        let state = &mut *self.0.lock();
        begin(state.again, &mut state.webhooks, object)
    }

    /// Whether this webhook is to be asked in the second turn.
    pub fn wants_webhook(&self, key: &str) -> bool {
        self.0.lock().webhooks.due.contains(key)
    }

    /// A webhook has changed the object.
    pub fn webhook_changed(&self) {
        let state = &mut *self.0.lock();
        state.webhooks.changed();
        state.wanted = true;
    }

    /// This webhook wants to know what is changed after it.
    pub fn remember_webhook(&self, key: String) {
        self.0.lock().webhooks.waiting.insert(key);
    }

    /// The webhooks are done.
    pub fn end_webhooks(&self, object: &Value) {
        self.0.lock().webhooks.left = Some(object.clone());
    }
}

/// In the second turn, what others changed in between counts as a change.
fn begin(again: bool, turns: &mut Turns, object: &Value) -> bool {
    if again && turns.left.as_ref().is_some_and(|left| left != object) {
        turns.changed();
    }
    again
}
