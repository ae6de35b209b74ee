import Testing

@testable import MartletCheck

/// The judge finds each fault, and calls it by its own name.
@Suite struct JudgeTests {
    @Test func aGoodRunIsClean() {
        let world = World()
        #expect(world.verdict == Verdict())
        #expect(world.verdict.isClean)
        #expect(world.history.acked == 6)
        // Six messages, each at three devices that did not send it.
        #expect(world.history.delivered == 18)
        #expect(world.history.redelivered == 0)
    }

    @Test func aRepeatedPushIsOnlyCounted() {
        var world = World()
        world.receive(world.rows[2], 3)
        #expect(world.history.redelivered == 1)
        #expect(world.verdict.isClean)
    }

    @Test func acceptedButNotStoredIsLost() {
        var world = World()
        // The last one, so that nothing else moves: even a user who saw it loses it.
        world.store(Array(world.rows.dropLast()))
        world.audit.entries[0] = [Audit.Entry(head: 5, unread: 0), Audit.Entry(head: 5, unread: 1)]
        #expect(world.verdict.lost == 1)
        #expect(world.verdict.duplicated + world.verdict.outOfOrder + world.verdict.unreadMismatches == 0)
    }

    @Test func acceptedAndSeenByNobodyIsLost() {
        var world = World()
        let number = world.history.offered(device: 0, conversation: 0)
        world.history.accepted(number, now: 9000)
        #expect(world.verdict.lost == 1)
        #expect(world.verdict.findings.count == 1)
    }

    @Test func storedButNeverReceivedIsLostOnce() {
        var world = World()
        for device in [1, 3] {
            var some = SeqSet()
            for row in world.rows where row.seq != 4 { _ = some.insert(row.seq) }
            world.receipts[device].conversations[0] = some
        }
        #expect(world.verdict.lost == 1)
    }

    @Test func aDeviceThatIsAwayLosesNothingButIsReported() {
        var world = World()
        world.receipts[3].conversations[0] = SeqSet()
        world.receipts[3].connected = false
        #expect(world.verdict.lost == 0)
        #expect(world.verdict.disconnected == 1)
        #expect(!world.verdict.isClean)
    }

    @Test func theSameMessageAtTwoPlacesIsDuplicated() {
        var world = World()
        var again = world.rows[5]
        (again.seq, again.n) = (7, 7)
        for device in world.roster.devices.indices { world.receive(again, device) }
        world.store(world.rows + [again])
        let writer = world.roster.devices[again.device ?? 0].user
        let members = world.roster.conversations[0].members
        world.audit.entries[0] = members.map { Audit.Entry(head: 7, unread: $0 == writer ? 0 : 2) }
        #expect(world.verdict.duplicated == 1)
        #expect(world.verdict.lost + world.verdict.outOfOrder + world.verdict.unreadMismatches == 0)
    }

    @Test func aSendersMessagesSwappedAreOutOfOrder() {
        var world = World()
        world.history = History(roster: world.roster)
        let writer = world.rows[0].device ?? 0
        for number in 0..<2 {
            _ = world.history.offered(device: writer, conversation: 0)
            world.history.accepted(number, now: 100)
        }
        world.rows = [
            Row(seq: 1, n: 1, timeMS: 5, number: 1, device: writer),
            Row(seq: 2, n: 2, timeMS: 5, number: 0, device: writer),
        ]
        for device in world.receipts.indices { world.receipts[device].conversations = [0: SeqSet()] }
        for row in world.rows { for device in world.receipts.indices { world.receive(row, device) } }
        world.store(world.rows)
        let sender = world.roster.devices[writer].user
        world.audit.entries[0] = world.roster.conversations[0].members.map {
            Audit.Entry(head: 2, unread: $0 == sender ? 0 : 2)
        }
        #expect(world.verdict.outOfOrder == 1)
        #expect(world.verdict.lost + world.verdict.duplicated + world.verdict.unreadMismatches == 0)
    }

    @Test func membersWhoSeeDifferentOrdersAreOutOfOrder() {
        var world = World()
        var other = world.rows
        (other[3].number, other[4].number) = (other[4].number, other[3].number)
        (other[3].device, other[4].device) = (other[4].device, other[3].device)
        world.audit.histories[0][1] = other
        #expect(world.verdict.outOfOrder == 2)
        #expect(world.verdict.lost + world.verdict.duplicated == 0)
    }

    @Test func whatWasShownMustBeWhatIsStored() {
        var world = World()
        var swapped = world.rows
        (swapped[3].number, swapped[4].number) = (swapped[4].number, swapped[3].number)
        (swapped[3].device, swapped[4].device) = (swapped[4].device, swapped[3].device)
        world.store(swapped)
        #expect(world.verdict.outOfOrder == 2)
    }

    @Test func devicesThatAreShownDifferentThingsContradict() {
        var world = World()
        var wrong = world.rows[1]
        wrong.number = 3
        world.receive(wrong, 0)
        #expect(world.verdict.outOfOrder == 1)
    }

    @Test func aHoleInTheSeqsIsOutOfOrder() {
        var world = World()
        world.store(
            world.rows.filter { $0.seq != 3 }.map { row in
                var row = row
                if row.seq > 3 { row.n -= 1 }
                return row
            })
        #expect(world.verdict.outOfOrder > 0)
        #expect(world.verdict.lost == 1)
    }

    @Test func timeThatGoesBackIsOutOfOrder() {
        var world = World()
        world.history = World().history
        world.rows[2].timeMS = 50
        world.store(world.rows)
        // Once by itself, once because it was shown with another time.
        #expect(world.verdict.outOfOrder == 2)
        #expect(world.verdict.unreadMismatches == 0)
    }

    @Test func aRowThatIsMiscountedIsAMismatch() {
        var world = World()
        for index in 3..<6 { world.rows[index].n += 1 }
        world.store(world.rows)
        // The step at seq 4, and three rows that were shown with another n.
        #expect(world.verdict.unreadMismatches == 4)
        #expect(world.verdict.lost + world.verdict.duplicated + world.verdict.outOfOrder == 0)
    }

    @Test func aPushWithAnotherCountIsAMismatch() {
        var world = World()
        var wrong = world.rows[5]
        wrong.n += 1
        world.receive(wrong, 0)
        #expect(world.verdict.unreadMismatches == 1)
    }

    @Test func aWrongUnreadCountIsAMismatch() {
        var world = World()
        world.audit.entries[0][0] = Audit.Entry(head: 6, unread: 2)
        #expect(world.verdict.unreadMismatches == 1)
        #expect(world.verdict.wrongUnread == [world.roster.conversations[0].members[0]])
        world.audit.entries[0][0] = Audit.Entry(head: 5, unread: 1)
        #expect(world.verdict.unreadMismatches == 1)
        world.audit.entries[0][0] = nil
        #expect(world.verdict.unreadMismatches == 1)
    }

    @Test func aReadThatIsNotConfirmedMayCountEitherWay() {
        var world = World()
        let member = world.roster.conversations[0].members[0]
        world.history.askedRead(user: member, conversation: 0, seq: 6)
        for unread in [UInt64(0), 1] {
            world.audit.entries[0][0] = Audit.Entry(head: 6, unread: unread)
            #expect(world.verdict.isClean)
        }
        world.audit.entries[0][0] = Audit.Entry(head: 6, unread: 2)
        #expect(world.verdict.unreadMismatches == 1)
        world.history.confirmedRead(user: member, conversation: 0, seq: 6)
        world.audit.entries[0][0] = Audit.Entry(head: 6, unread: 1)
        #expect(world.verdict.unreadMismatches == 1)
    }

    @Test func refusedButStoredIsAPhantom() {
        var world = World()
        let writer = world.rows[5].device ?? 0
        let number = world.history.offered(device: writer, conversation: 0)
        world.history.refused(number, reason: "no_such_user")
        let row = Row(seq: 7, n: 7, timeMS: 200, number: number, device: writer)
        for device in world.receipts.indices { world.receive(row, device) }
        world.store(world.rows + [row])
        #expect(world.verdict.phantom == 1)
        // Doubtful once: the first copy may have been stored, the refusal was of a later one.
        world.history.doubted(number)
        #expect(world.verdict.phantom == 0)
    }

    @Test func whatNobodySentIsAPhantom() {
        var world = World()
        let row = Row(seq: 7, n: 7, timeMS: 200)
        for device in world.receipts.indices { world.receive(row, device) }
        world.store(world.rows + [row])
        #expect(world.verdict.phantom == 1)
    }

    @Test func sendsWithoutOutcomeAndUnreadableHistoriesAreReported() {
        var world = World()
        _ = world.history.offered(device: 0, conversation: 0)
        #expect(world.verdict.unresolved == 1)
        world.audit.histories[0][1] = nil
        #expect(world.verdict.unaudited == 1)
        #expect(!world.verdict.isClean)
    }

    @Test func theReportSaysItAndTheExitFollows() {
        var world = World()
        world.store(Array(world.rows.dropLast()))
        let report = Report(
            CheckRun.Outcome(
                verdict: world.verdict, history: world.history, reconnects: 3, stalls: 0, kills: 1, failedKills: [],
                roster: world.roster), seed: 9)
        #expect(!report.isClean)
        #expect(report.words.contains("1 lost"))
        let json = String(decoding: report.json, as: UTF8.self)
        let fields = [#""lost":1"#, #""acked":6"#, #""out_of_order":0"#, #""latency_ms":{"#, #""seed":9"#]
        for field in fields {
            #expect(json.contains(field), "\(field) in \(json)")
        }
        #expect(!json.contains("\n"))
        let clean = CheckRun.Outcome(
            verdict: World().verdict, history: World().history, reconnects: 0, stalls: 0, kills: 0, failedKills: [],
            roster: world.roster)
        #expect(Report(clean, seed: 9).isClean)
        var vacuous = clean
        vacuous.history = History(roster: world.roster)
        #expect(!Report(vacuous, seed: 9).isClean)
        var spared = clean
        spared.failedKills = ["login: no process"]
        #expect(!Report(spared, seed: 9).isClean)
    }
}
