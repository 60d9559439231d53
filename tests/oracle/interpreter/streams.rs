//! Steps on streams that take one record at a time.

use super::keys::Key;
use super::options::{consumed, produced};
use super::{Handle, Interpreter, same};
use crate::case::{Fields, Stop};
use crate::functions::{flat, mapper, predicate};
use crate::val::{Type, Var, text};
use serde_json::{Value, json};
use watersmeet::dsl::{Branched, KStream, Repartitioned, TopicNameExtractor};
use watersmeet::prelude::TopicPattern;

/// The mapper in a field, or the one of that name.
pub(super) fn spec(step: Fields, field: &str, otherwise: &str) -> Value {
    step.get(field).cloned().unwrap_or_else(|| json!(otherwise))
}

/// The mapper that must be there.
pub(super) fn required(step: Fields, field: &str) -> Result<Value, Stop> {
    step.get(field).cloned().ok_or_else(|| Stop::Case(format!("'{field}' is missing in {}", step.0)))
}

impl Interpreter {
    pub(super) fn stream(&mut self, step: Fields) -> Result<(), Stop> {
        let (key, value) = (step.r#type("key")?, step.r#type("value")?);
        if let Some(pattern) = step.maybe_text("pattern") {
            let pattern = TopicPattern::new(pattern).map_err(|error| Stop::Case(error.to_string()))?;
            self.patterns.push((pattern.clone(), (key.clone(), value.clone())));
            let stream = self.builder.stream(pattern, consumed(step, &key, &value)?);
            return self.put(step, Handle::Stream(stream), key, value);
        }
        let topics = if step.get("topics").is_some() { step.texts("topics") } else { vec![step.text("topic")?] };
        for topic in &topics {
            self.sources.insert((*topic).into(), (key.clone(), value.clone()));
        }
        let stream = self.builder.stream(topics, consumed(step, &key, &value)?);
        self.put(step, Handle::Stream(stream), key, value)
    }

    pub(super) fn filter<K: Key>(
        &mut self,
        step: Fields,
        stream: KStream<K, Var>,
        key: Type,
        value: Type,
        not: bool,
    ) -> Result<(), Stop> {
        let keep = predicate(step.text("predicate")?, &key, &value)?;
        let filtered = if not {
            stream.filter_not(move |k: &K, v| keep(&k.var(), v))
        } else {
            stream.filter(move |k: &K, v| keep(&k.var(), v))
        };
        self.put_stream(step, filtered, key, value)
    }

    pub(super) fn map<K: Key>(
        &mut self,
        step: Fields,
        stream: KStream<K, Var>,
        key: Type,
        value: Type,
    ) -> Result<(), Stop> {
        let keys = mapper(&spec(step, "key_mapper", "key"), &key, &value)?;
        let values = mapper(&spec(step, "value_mapper", "identity"), &key, &value)?;
        let mapped = stream.map(move |k: K, v| ((keys.f)(&k.var(), &v), (values.f)(&k.var(), &v)));
        self.put_stream(step, mapped, keys.out, values.out)
    }

    pub(super) fn map_values<K: Key>(
        &mut self,
        step: Fields,
        stream: KStream<K, Var>,
        key: Type,
        value: Type,
    ) -> Result<(), Stop> {
        let values = mapper(&required(step, "mapper")?, &key, &value)?;
        let mapped = stream.map_values_with_key(move |k: &K, v| (values.f)(&k.var(), &v));
        self.put_stream(step, mapped, key, values.out)
    }

    pub(super) fn flat_map<K: Key>(
        &mut self,
        step: Fields,
        stream: KStream<K, Var>,
        key: Type,
        value: Type,
    ) -> Result<(), Stop> {
        let flat = flat(step.text("flat")?, &value)?;
        let keys = mapper(&spec(step, "key_mapper", "key"), &key, &flat.out)?;
        let values = mapper(&spec(step, "value_mapper", "identity"), &key, &flat.out)?;
        let (key_of, value_of) = (keys.f, values.f);
        let each = move |k: K, v| {
            let all = (flat.f)(&v);
            all.iter().map(|one| (key_of(&k.var(), one), value_of(&k.var(), one))).collect::<Vec<_>>()
        };
        self.put_stream(step, stream.flat_map(each), keys.out, values.out)
    }

    pub(super) fn flat_map_values<K: Key>(
        &mut self,
        step: Fields,
        stream: KStream<K, Var>,
        key: Type,
        value: Type,
    ) -> Result<(), Stop> {
        let flat = flat(step.text("flat")?, &value)?;
        let all = flat.f;
        self.put_stream(step, stream.flat_map_values(move |v| all(&v)), key, flat.out)
    }

    pub(super) fn select_key<K: Key>(
        &mut self,
        step: Fields,
        stream: KStream<K, Var>,
        key: Type,
        value: Type,
    ) -> Result<(), Stop> {
        let keys = mapper(&required(step, "mapper")?, &key, &value)?;
        let key_of = keys.f;
        self.put_stream(step, stream.select_key(move |k: &K, v| key_of(&k.var(), v)), keys.out, value)
    }

    pub(super) fn peek<K: Key>(
        &mut self,
        step: Fields,
        stream: KStream<K, Var>,
        key: Type,
        value: Type,
    ) -> Result<(), Stop> {
        let (effects, id) = (self.effects.clone(), step.text("id")?.to_string());
        self.put_stream(step, stream.peek(move |k: &K, v| effects.saw(&id, &k.var(), v)), key, value)
    }

    pub(super) fn foreach<K: Key>(
        &mut self,
        step: Fields,
        stream: KStream<K, Var>,
        _: Type,
        _: Type,
    ) -> Result<(), Stop> {
        let (effects, id) = (self.effects.clone(), step.text("id")?.to_string());
        if step.named().is_some() {
            return Err(Stop::NotYet("foreach with a name".into()));
        }
        stream.for_each(move |k: &K, v| effects.saw(&id, &k.var(), v));
        Ok(())
    }

    pub(super) fn merge(&mut self, step: Fields) -> Result<(), Stop> {
        let (left, key, value) = self.stream_input(step, 0)?;
        let (right, other_key, other_value) = self.stream_input(step, 1)?;
        same(step, "keys", &key, &other_key)?;
        same(step, "values", &value, &other_value)?;
        self.put_stream(step, left.merge(&right), key, value)
    }

    pub(super) fn split(&mut self, step: Fields) -> Result<(), Stop> {
        let (stream, key, value) = self.stream_input(step, 0)?;
        let branched = |branch: Fields| branch.named().map_or_else(Branched::default, Branched::named);
        // The name of a branch is the split's and its own, or its number. A generated name of a split has 25 characters.
        let prefix = step.named().map_or("KSTREAM-BRANCH-0000000000".len(), str::len);
        let mut ids = Vec::new();
        let mut split = stream.split(step.named());
        for (number, branch) in step.list("branches").iter().map(Fields).enumerate() {
            let keep = predicate(branch.text("predicate")?, &key, &value)?;
            split = split.branch(move |k, v| keep(k, v), branched(branch));
            ids.push((branch.text("id")?, branch.named().map_or((number + 1).to_string(), str::to_owned)));
        }
        let branches = match step.fields("default") {
            Some(branch) => {
                ids.push((branch.text("id")?, branch.named().map_or("0".into(), str::to_owned)));
                split.default_branch(branched(branch))
            }
            None => split.no_default_branch(),
        };
        for (id, name) in ids {
            let found = branches.iter().find(|(full, _)| full[prefix..] == name);
            let (_, stream) = found.ok_or_else(|| format!("there is no branch {name}"))?;
            self.put_as(id, Handle::Stream(stream.clone()), key.clone(), value.clone())?;
        }
        Ok(())
    }

    pub(super) fn repartition(&mut self, step: Fields) -> Result<(), Stop> {
        let (stream, key, value) = self.stream_input(step, 0)?;
        let mut options = Repartitioned::with(key.nullable(), value.nullable());
        if let Some(name) = step.named() {
            options = options.named(name);
        }
        if let Some(partitions) = step.maybe_number("partitions") {
            options = options.partitions(partitions as i32);
        }
        self.put(step, Handle::Stream(stream.repartition(options)), key, value)
    }

    pub(super) fn to<K: Key>(
        &mut self,
        step: Fields,
        stream: KStream<K, Var>,
        key: Type,
        value: Type,
    ) -> Result<(), Stop> {
        if let Some(spec) = step.maybe_text("topic_extractor") {
            let separator = spec.strip_prefix("value_before:").ok_or("unknown topic extractor")?.to_string();
            let prefix = step.maybe_text("topic_prefix").unwrap_or_default().to_string();
            self.dynamic_sinks.insert(prefix.clone(), (key.clone(), value.clone()));
            let topic_of = TopicNameExtractor::new("TopicFromValue", move |_: &K, value: &Var, _| {
                let value = text(value);
                format!("{prefix}{}", value.split_once(&*separator).map_or("other", |(before, _)| before))
            });
            stream.to_dynamic(topic_of, produced(step, &key, &value));
            return Ok(());
        }
        let topic = step.text("topic")?;
        stream.to(topic, produced(step, &key, &value));
        let types = (key, value);
        let known = self.sinks.entry(topic.into()).or_insert_with(|| types.clone());
        if *known != types {
            *known = (Type::Bytes, Type::Bytes);
        }
        Ok(())
    }
}
