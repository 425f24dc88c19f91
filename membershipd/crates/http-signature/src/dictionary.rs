//! Dictionaries of structured fields (RFC 9651 section 3.2), of which nothing is forgotten.
//!
//! Of a key that occurs twice a parser keeps the last value. Two programs that disagree on which one counts are a way
//! around a signature, so what is read here keeps all of them for the caller to refuse.

use std::convert::Infallible;

use sfv::visitor::{DictionaryVisitor, EntryVisitor, InnerListVisitor, ItemVisitor, ParameterVisitor};
use sfv::{BareItemFromInput, KeyRef, Parser};

/// Parameters as they came, repetitions included.
pub(super) type Parameters<'de> = Vec<(&'de KeyRef, BareItemFromInput<'de>)>;

/// A member of a dictionary.
#[derive(Debug)]
pub(super) struct Member<'de> {
    pub(super) label: &'de KeyRef,
    pub(super) value: Value<'de>,
    pub(super) parameters: Parameters<'de>,
}

/// Value of a member.
#[derive(Debug)]
pub(super) enum Value<'de> {
    Item(BareItemFromInput<'de>),
    List(Vec<Item<'de>>),
}

/// An item of an inner list.
#[derive(Debug)]
pub(super) struct Item<'de> {
    pub(super) value: BareItemFromInput<'de>,
    pub(super) parameters: Parameters<'de>,
}

/// Parses a field; none: it is no dictionary.
pub(super) fn parse(field: &[u8]) -> Option<Vec<Member<'_>>> {
    Parser::new(field).parse_dictionary_with_visitor(Collect(Vec::new())).ok()
}

struct Collect<'de>(Vec<Member<'de>>);

impl<'de> DictionaryVisitor<'de> for Collect<'de> {
    type Out = Vec<Member<'de>>;
    type Error = Infallible;

    fn entry(&mut self, label: &'de KeyRef) -> Result<impl EntryVisitor<'de>, Infallible> {
        Ok(Entry { members: &mut self.0, label, items: Vec::new() })
    }

    fn finish(self) -> Result<Self::Out, Infallible> {
        Ok(self.0)
    }
}

struct Entry<'a, 'de> {
    members: &'a mut Vec<Member<'de>>,
    label: &'de KeyRef,
    items: Vec<Item<'de>>,
}

impl<'a, 'de> Entry<'a, 'de> {
    fn push(self, value: Value<'de>) -> Collected<'a, 'de> {
        let member = self.members.push_mut(Member { label: self.label, value, parameters: Vec::new() });
        Collected(&mut member.parameters)
    }
}

impl<'de> EntryVisitor<'de> for Entry<'_, 'de> {
    type Error = Infallible;

    fn item(self) -> Result<impl ItemVisitor<'de>, Infallible> {
        Ok(move |value| Ok::<_, Infallible>(self.push(Value::Item(value))))
    }

    fn inner_list(self) -> Result<impl InnerListVisitor<'de>, Infallible> {
        Ok(self)
    }
}

impl<'de> InnerListVisitor<'de> for Entry<'_, 'de> {
    type Error = Infallible;

    fn item(&mut self) -> Result<impl ItemVisitor<'de>, Infallible> {
        Ok(Listed(&mut self.items))
    }

    fn finish(mut self) -> Result<impl ParameterVisitor<'de>, Infallible> {
        let items = std::mem::take(&mut self.items);
        Ok(self.push(Value::List(items)))
    }
}

struct Listed<'a, 'de>(&'a mut Vec<Item<'de>>);

impl<'de> ItemVisitor<'de> for Listed<'_, 'de> {
    type Out = ();
    type Error = Infallible;

    fn bare_item(self, value: BareItemFromInput<'de>) -> Result<impl ParameterVisitor<'de, Out = ()>, Infallible> {
        let item = self.0.push_mut(Item { value, parameters: Vec::new() });
        Ok(Collected(&mut item.parameters))
    }
}

struct Collected<'a, 'de>(&'a mut Parameters<'de>);

impl<'de> ParameterVisitor<'de> for Collected<'_, 'de> {
    type Out = ();
    type Error = Infallible;

    fn parameter(&mut self, key: &'de KeyRef, value: BareItemFromInput<'de>) -> Result<(), Infallible> {
        self.0.push((key, value));
        Ok(())
    }

    fn finish(self) -> Result<(), Infallible> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repetitions_are_kept() {
        let members = parse(b"a=1;x;x=?0, b=(\"c\";y \"c\");z=:AA==:, a=2").unwrap();
        let labels: Vec<_> = members.iter().map(|member| member.label.as_str()).collect();
        assert_eq!(labels, ["a", "b", "a"]);
        assert_eq!(members[0].parameters.len(), 2);
        let Value::List(items) = &members[1].value else { panic!("{:?}", members[1]) };
        assert_eq!((items.len(), items[0].parameters.len(), items[1].parameters.len()), (2, 1, 0));
        assert_eq!(members[1].parameters[0].1.as_byte_sequence(), Some(&[0][..]));
    }

    #[test]
    fn what_is_no_dictionary_is_none() {
        for bad in ["a=", "a=1,", "A=1", "a=(", "a=:!:", "a=\"\u{e4}\"", "a b"] {
            assert!(parse(bad.as_bytes()).is_none(), "{bad}");
        }
        assert!(parse(b"").unwrap().is_empty());
    }
}
