//! The ack store: it takes what agents say, whether the centre is up or not.

use crate::event::{Event, Host};
use crate::hosts::{Given, Role};
use crate::node::{Node, Ticket};
use crate::planted::Around;
use crate::world::{Happening, World, agent_name, agent_number, tenant};
use countersign_rules::Position;
use countersign_rules::ack::{AckStore, Grew, Post as Given_, Posted, decode_record};

impl Role for AckStore {
    fn node(world: &mut World, _host: Host) -> &mut Node<Self> {
        &mut world.acks
    }

    fn fresh(_world: &World, _host: Host) -> Self {
        AckStore::new()
    }

    fn durable(world: &mut World, _host: Host, position: Position, payload: &[u8]) {
        let record = decode_record(payload).expect("a record of our own is understood");
        world
            .checker
            .judge_records(|records| records.ack(position, &record));
        if let Some(ack) = record.into_ack() {
            let agent = agent_number(&ack.agent);
            world.tell(Event::AckRecorded {
                position,
                agent,
                ack,
            });
        }
    }

    fn reply(world: &mut World, _host: Host, ticket: Ticket, _reply: Vec<Posted>) {
        let Ticket::Post { call, .. } = ticket else {
            return;
        };
        let Some(post) = world.posts.get(&call).cloned() else {
            return;
        };
        world.stats.acks += post.items.len() as u64;
        if !world.centre.is_up() {
            world.stats.acks_while_centre_down += post.items.len() as u64;
        }
        world.tell(Event::AckOk {
            agent: post.agent,
            items: post.items,
        });
        world.answer_post(call, true);
    }

    fn effect(world: &mut World, _host: Host, _grew: Grew) {
        world.pull();
    }

    fn came_up(_world: &mut World, _host: Host) {}

    fn stopped(_world: &mut World, _host: Host) {}
}

impl World {
    pub(crate) fn post_arrives(&mut self, call: u64, copy: u32) {
        let Some(post) = self.posts.get(&call).cloned() else {
            return;
        };
        if self.has(Around::AcksNeedCentre) && !self.centre.is_up() && self.acks.is_up() {
            self.tell(Event::AckRefused { agent: post.agent });
            return self.answer_post(call, false);
        }
        let input = Given_ {
            tenant: tenant(),
            agent: agent_name(post.agent),
            items: post.items,
        };
        match self.give::<AckStore>(Host::Acks, input, Ticket::Post { call, copy }) {
            Given::Taken => {}
            Given::Down => self.answer_post(call, false),
            Given::NoSpace => self.tell(Event::AckRefused { agent: post.agent }),
        }
    }

    fn answer_post(&mut self, call: u64, taken: bool) {
        let (delay, lost) = (self.delay(), self.acks_cut || self.mishap(4));
        if !lost {
            self.later(delay, Happening::PostAnswered { call, taken });
        }
    }
}
