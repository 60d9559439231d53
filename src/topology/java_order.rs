//! The orders in which Java's collections give their elements back: `describe()` prints them, so they are part of its text.

use std::cmp::Ordering;

/// `String.hashCode`, spread as `HashMap` does.
fn hash(name: &str) -> u32 {
    let hash = name.encode_utf16().fold(0u32, |h, unit| h.wrapping_mul(31).wrapping_add(u32::from(unit)));
    hash ^ (hash >> 16)
}

/// The iteration order of a `java.util.HashSet` to which `names` were added in this order: by bucket, and within a bucket
/// in the order of insertion, which survives resizing.
pub(super) fn hash_order<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let mut names: Vec<&str> = names.into_iter().collect();
    let mut capacity = 16;
    while names.len() > capacity * 3 / 4 {
        capacity *= 2;
    }
    names.sort_by_key(|name| hash(name) as usize & (capacity - 1));
    names
}

/// Java's `String.compareTo`: by UTF-16 units.
pub(super) fn compare(a: &str, b: &str) -> Ordering {
    a.encode_utf16().cmp(b.encode_utf16())
}

/// A `java.util.TreeSet` whose comparator looks at something that changes after insertion: elements stay where they were
/// inserted, and later insertions meet the tree as it stands. So the tree's shape matters, and it is kept as Java keeps
/// it: a red-black tree after CLR.
#[derive(Debug, Default)]
pub(super) struct TreeSet {
    nodes: Vec<TreeNode>,
    root: Option<usize>,
}

#[derive(Debug)]
struct TreeNode {
    element: usize,
    red: bool,
    parent: Option<usize>,
    /// Left and right.
    children: [Option<usize>; 2],
}

const LEFT: usize = 0;
const RIGHT: usize = 1;

impl TreeSet {
    /// Adds `element`, compared as things are now. One that compares equal is there already.
    pub(super) fn insert(&mut self, element: usize, compare: impl Fn(usize, usize) -> Ordering) {
        let mut parent = None;
        let mut side = LEFT;
        let mut at = self.root;
        while let Some(n) = at {
            parent = Some(n);
            side = match compare(element, self.nodes[n].element) {
                Ordering::Less => LEFT,
                Ordering::Greater => RIGHT,
                Ordering::Equal => return,
            };
            at = self.nodes[n].children[side];
        }
        let new = self.nodes.len();
        self.nodes.push(TreeNode { element, red: true, parent, children: [None; 2] });
        match parent {
            None => self.root = Some(new),
            Some(parent) => self.nodes[parent].children[side] = Some(new),
        }
        self.balance(new);
    }

    /// The elements from left to right.
    pub(super) fn elements(&self) -> Vec<usize> {
        let (mut found, mut above, mut at) = (Vec::new(), Vec::new(), self.root);
        loop {
            while let Some(n) = at {
                above.push(n);
                at = self.nodes[n].children[LEFT];
            }
            let Some(n) = above.pop() else { return found };
            found.push(self.nodes[n].element);
            at = self.nodes[n].children[RIGHT];
        }
    }

    fn is_red(&self, node: Option<usize>) -> bool {
        node.is_some_and(|n| self.nodes[n].red)
    }

    /// `TreeMap.fixAfterInsertion`.
    fn balance(&mut self, new: usize) {
        let mut x = new;
        while let Some(parent) = self.nodes[x].parent.filter(|p| self.nodes[*p].red) {
            // A red node has a parent: the root is black.
            let Some(grand) = self.nodes[parent].parent else { break };
            let side = if self.nodes[grand].children[LEFT] == Some(parent) { LEFT } else { RIGHT };
            let uncle = self.nodes[grand].children[1 - side];
            if let Some(uncle) = uncle.filter(|_| self.is_red(uncle)) {
                self.nodes[parent].red = false;
                self.nodes[uncle].red = false;
                self.nodes[grand].red = true;
                x = grand;
                continue;
            }
            if self.nodes[parent].children[1 - side] == Some(x) {
                x = parent;
                self.rotate(x, side);
            }
            if let Some(parent) = self.nodes[x].parent {
                self.nodes[parent].red = false;
                self.nodes[grand].red = true;
                self.rotate(grand, 1 - side);
            }
        }
        if let Some(root) = self.root {
            self.nodes[root].red = false;
        }
    }

    /// Rotates `n` down to `side`.
    fn rotate(&mut self, n: usize, side: usize) {
        let Some(up) = self.nodes[n].children[1 - side] else { return };
        let inner = self.nodes[up].children[side];
        self.nodes[n].children[1 - side] = inner;
        if let Some(inner) = inner {
            self.nodes[inner].parent = Some(n);
        }
        let parent = self.nodes[n].parent;
        self.nodes[up].parent = parent;
        match parent {
            None => self.root = Some(up),
            Some(p) => {
                let side = if self.nodes[p].children[LEFT] == Some(n) { LEFT } else { RIGHT };
                self.nodes[p].children[side] = Some(up);
            }
        }
        self.nodes[up].children[side] = Some(n);
        self.nodes[n].parent = Some(up);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_come_in_javas_order() {
        // Observed: the stores of an outer join's nodes (Kafka Streams 4.3).
        assert_eq!(
            hash_order(["JS-outer-other-join-store", "JS-outer-shared-join-store"]),
            ["JS-outer-shared-join-store", "JS-outer-other-join-store"]
        );
        assert_eq!(
            hash_order(["JS-outer-this-join-store", "JS-outer-shared-join-store"]),
            ["JS-outer-this-join-store", "JS-outer-shared-join-store"]
        );
    }

    proptest! {
        #[test]
        fn a_tree_whose_order_stays_gives_its_elements_in_order_and_is_balanced(elements: Vec<u16>) {
            let mut tree = TreeSet::default();
            for element in &elements {
                tree.insert(usize::from(*element), |a, b| a.cmp(&b));
            }
            let mut want: Vec<usize> = elements.into_iter().map(usize::from).collect();
            want.sort_unstable();
            want.dedup();
            prop_assert_eq!(tree.elements(), want);
            for (n, node) in tree.nodes.iter().enumerate() {
                prop_assert!(!(node.red && tree.is_red(node.parent)), "red under red at {}", n);
            }
        }
    }
}
