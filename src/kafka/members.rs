//! Who is in a group, as its coordinator tells it.
//!
//! An instance that serves queries says where in its members' client id, behind an `@`: that is told of every member, whatever
//! the protocol of the group.

use super::client::{self, REQUEST_TIMEOUT};
use super::code;
use super::consumer::{Queue, check};
use crate::broker::{GroupMember, TopicPartition};
use crate::error::{Error, Kind, Result};
use rdkafka::ClientConfig;
use rdkafka::types::{RDKafkaErrorCode, RDKafkaType};
use rdkafka_sys as sys;
use std::ffi::CString;
use std::ptr::NonNull;

/// What the client id of a member has behind its name.
pub(super) fn with_server(client_id: String, server: Option<&str>) -> String {
    server.map_or(client_id.clone(), |server| format!("{client_id}@{server}"))
}

fn server_of(client_id: &str) -> Option<String> {
    client_id.rsplit_once('@').map(|(_, server)| server.to_owned())
}

/// An event of librdkafka's, given back when dropped.
struct Answer(NonNull<sys::rd_kafka_event_t>);

impl Drop for Answer {
    fn drop(&mut self) {
        // SAFETY: the event is ours.
        unsafe { sys::rd_kafka_event_destroy(self.0.as_ptr()) }
    }
}

/// The members of `group`; none where there is no such group.
pub(super) fn members(config: &ClientConfig, group: &str) -> Result<Vec<GroupMember>> {
    let doing = "asking who is in the group";
    let client = client::create(config, RDKafkaType::RD_KAFKA_CONSUMER)?;
    let name = CString::new(group).map_err(|e| Error::new(Kind::Config, "is no name of a group").source(e))?;
    let mut names = [name.as_ptr()];
    // SAFETY: the client is alive; what it makes is ours. The names are copied. An event lives as long as `Answer`.
    let answer = unsafe {
        let queue = NonNull::new(sys::rd_kafka_queue_new(client.native_ptr())).map(Queue);
        let queue = queue.ok_or_else(|| Error::new(Kind::Internal, "no queue for an answer"))?;
        let (rk, options) = (client.native_ptr(), std::ptr::null());
        sys::rd_kafka_DescribeConsumerGroups(rk, names.as_mut_ptr(), names.len(), options, queue.0.as_ptr());
        let event = sys::rd_kafka_queue_poll(queue.0.as_ptr(), REQUEST_TIMEOUT.as_millis() as i32);
        let event = NonNull::new(event).map(Answer);
        event.ok_or_else(|| code::error(RDKafkaErrorCode::OperationTimedOut, doing))?
    };
    let mut found = Vec::new();
    // SAFETY: the event is alive, and with it the groups, their members and their partitions; all of it is copied.
    unsafe {
        check(sys::rd_kafka_event_error(answer.0.as_ptr()), doing)?;
        let result = sys::rd_kafka_event_DescribeConsumerGroups_result(answer.0.as_ptr());
        if result.is_null() {
            return Err(Error::new(Kind::Internal, "the answer is of another request"));
        }
        let mut count = 0;
        let groups = sys::rd_kafka_DescribeConsumerGroups_result_groups(result, &mut count);
        for group in (0..count).map(|i| *groups.add(i)) {
            let error = sys::rd_kafka_ConsumerGroupDescription_error(group);
            if !error.is_null() {
                check(sys::rd_kafka_error_code(error), doing)?;
            }
            for i in 0..sys::rd_kafka_ConsumerGroupDescription_member_count(group) {
                let member = sys::rd_kafka_ConsumerGroupDescription_member(group, i);
                let client_id = client::text(sys::rd_kafka_MemberDescription_client_id(member));
                found.push(GroupMember { server: server_of(&client_id), client_id, partitions: partitions(member) });
            }
        }
    }
    Ok(found)
}

/// # Safety
/// The member must be alive.
unsafe fn partitions(member: *const sys::rd_kafka_MemberDescription_t) -> Vec<TopicPartition> {
    // SAFETY: the assignment and its list live as long as the member.
    unsafe {
        let assignment = sys::rd_kafka_MemberDescription_assignment(member);
        if assignment.is_null() {
            return Vec::new();
        }
        let list = match sys::rd_kafka_MemberAssignment_partitions(assignment).as_ref() {
            Some(list) if list.cnt > 0 => std::slice::from_raw_parts(list.elems, list.cnt as usize),
            _ => &[],
        };
        list.iter().map(|tp| TopicPartition::new(client::text(tp.topic), tp.partition)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_id_carries_the_address() {
        let id = with_server("app-1-StreamThread-1-consumer".into(), Some("shop-1:8080"));
        assert_eq!(server_of(&id).as_deref(), Some("shop-1:8080"));
        assert_eq!(server_of(&with_server("me@home".into(), Some("[::1]:80"))).as_deref(), Some("[::1]:80"));
        assert_eq!(with_server("id".into(), None), "id");
        assert_eq!(server_of("id"), None);
    }
}
