//! The order in which documents are put together: `retrieve_order`, `retrieve_order_by`.
use crate::presence::config::Config;
use crate::presence::config::modes::DocumentOrder;
use crate::presence::publication::Publication;
use std::cmp::Ordering;

/// The columns of the table of publications.
const COLUMNS: [&str; 11] =
    ["priority", "received_time", "expires", "etag", "sender", "ruid", "username", "domain", "event", "body", "id"];

/// A column of `presentity` that memory knows, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OrderColumn {
    Priority,
    ReceivedTime,
    Expires,
    Etag,
    Sender,
    Ruid,
}

impl OrderColumn {
    fn named(name: &str) -> Option<OrderColumn> {
        Some(match name {
            "priority" => OrderColumn::Priority,
            "received_time" => OrderColumn::ReceivedTime,
            "expires" => OrderColumn::Expires,
            "etag" => OrderColumn::Etag,
            "sender" => OrderColumn::Sender,
            "ruid" => OrderColumn::Ruid,
            _ => return None,
        })
    }

    fn compare(self, a: &Publication, b: &Publication) -> Ordering {
        match self {
            OrderColumn::Priority => a.priority.cmp(&b.priority),
            OrderColumn::ReceivedTime => a.received_at.cmp(&b.received_at),
            OrderColumn::Expires => a.expires_at.cmp(&b.expires_at),
            OrderColumn::Etag => a.etag.bytes().cmp(b.etag.bytes()),
            OrderColumn::Sender => a.sender.cmp(&b.sender),
            OrderColumn::Ruid => a.ruid.cmp(&b.ruid),
        }
    }
}

/// By which columns documents are sorted; what is equal stays as it was stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order(Vec<(OrderColumn, bool)>);

impl Order {
    /// The order in force. `None`: documents stay as they come, by their last change in memory, by other columns from
    /// a table.
    pub fn of_config(config: &Config) -> Option<Order> {
        match config.document_order() {
            DocumentOrder::LastChange => None,
            DocumentOrder::Priority => Some(Order(vec![(OrderColumn::Priority, false)])),
            DocumentOrder::Arrival => Some(Order(vec![(OrderColumn::ReceivedTime, false)])),
            DocumentOrder::Columns => Order::parse(config.order_by),
        }
    }

    /// Columns that memory knows, see [`parts`].
    fn parse(text: &[u8]) -> Option<Order> {
        let columns = parts(text)?.into_iter().map(|(name, descending)| Some((OrderColumn::named(&name)?, descending)));
        columns.collect::<Option<Vec<_>>>().map(Order)
    }

    /// Sorts documents.
    pub fn sort(&self, documents: &mut [Publication]) {
        documents.sort_by(|a, b| {
            let by_column = |&(column, descending): &(OrderColumn, bool)| match descending {
                false => column.compare(a, b),
                true => column.compare(b, a),
            };
            self.0.iter().map(by_column).find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
        });
    }
}

/// Column names with `asc` or `desc`, separated by commas: each name in small letters, and whether it descends.
fn parts(text: &[u8]) -> Option<Vec<(String, bool)>> {
    let parts = std::str::from_utf8(text).ok()?.split(',').map(|part| {
        let part = part.trim().to_ascii_lowercase();
        let (name, direction) = part.split_once(char::is_whitespace).unwrap_or((&part, "asc"));
        match direction.trim() {
            "asc" => Some((name.to_string(), false)),
            "desc" => Some((name.to_string(), true)),
            _ => None,
        }
    });
    parts.collect()
}

/// A warning, where an order names what is no column of `table`. The database has the last word: it may know an
/// expression, and the table a column of its own.
pub fn doubt(order_by: &[u8], table: &[u8]) -> Option<String> {
    let table = String::from_utf8_lossy(table).to_ascii_lowercase();
    let is_column = |name: &str| {
        let bare = name.strip_prefix(&table).and_then(|rest| rest.strip_prefix('.')).unwrap_or(name);
        COLUMNS.contains(&bare)
    };
    if parts(order_by).is_some_and(|parts| parts.iter().all(|(name, _)| is_column(name))) {
        return None;
    }
    Some(format!(
        "retrieve_order_by {} is not columns of {table}, each with asc or desc, separated by commas ({}): if the \
         database refuses it, no document can be read",
        String::from_utf8_lossy(order_by),
        COLUMNS.join(", ")
    ))
}

/// Whether a package is given the documents in the opposite of the order of `Publications::documents`: from memory the
/// newest comes first, from a table the oldest, as stock's packages see it.
pub fn is_reversed(config: &Config) -> bool {
    config.document_order() == DocumentOrder::LastChange
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Moment;

    fn sorted(order: &str, documents: &[(i32, i64)]) -> Vec<(i32, i64)> {
        let publication = |(priority, received_at): &(i32, i64)| Publication {
            priority: *priority,
            received_at: Some(Moment::at(*received_at)),
            ..Publication::default()
        };
        let mut list: Vec<_> = documents.iter().map(publication).collect();
        Order::parse(order.as_bytes()).unwrap().sort(&mut list);
        list.iter().map(|document| (document.priority, document.received_at.map_or(0, Moment::seconds))).collect()
    }

    #[test]
    fn documents_are_sorted_as_the_table_would() {
        let documents = [(50, 1), (300, 2), (-7, 3), (50, 0)];
        assert_eq!(sorted("priority", &documents), [(-7, 3), (50, 1), (50, 0), (300, 2)]);
        assert_eq!(sorted("priority DESC, received_time", &documents), [(300, 2), (50, 0), (50, 1), (-7, 3)]);
        assert_eq!(sorted(" received_time  desc ", &documents), [(-7, 3), (300, 2), (50, 1), (50, 0)]);
        assert_eq!(Order::parse(b"id"), None);
        assert_eq!(Order::parse(b"priority sideways"), None);
    }

    #[test]
    fn an_order_names_columns_of_the_table() {
        for order in ["priority", "ID desc, Domain", "presentity.etag ASC ,body"] {
            assert_eq!(doubt(order.as_bytes(), b"presentity"), None, "{order}");
        }
        for order in
            ["", "priority,", "colour", "documents.etag", "priority sideways", "priority desc desc", "priority.x"]
        {
            assert!(doubt(order.as_bytes(), b"presentity").is_some(), "{order}");
        }
    }
}
