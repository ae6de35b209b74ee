import Foundation
import Ports
import RPC
import TestKit
import Testing
import Wire

@testable import KafkaLog

/// What groups have read, and where the logs end.
extension KafkaMachineTests {
    @Test func aPositionIsAnsweredWhenTheGroupHasIt() throws {
        var script = script()
        let (share, _) = try join(&script, ends: [9, 0], committed: [2, nil])
        var request = LogCommit()
        request.log = "msg"
        request.group = "g"
        request.member = "m"
        request.generation = share.generation
        request.positions = [at(0, 2)]
        let (same, atOnce) = script.call(.logCommit(request))
        #expect(Script.answer(to: same, in: atOnce) == .answered(.done(Done())), "it is there already")
        request.positions = [at(0, 5)]
        let (call, actions) = script.call(.logCommit(request))
        guard case .commit(_, let token, let positions)? = outputs(actions).first else {
            Issue.record("nothing is committed")
            return
        }
        #expect(positions == [at(0, 5)])
        let failed = script.event(.input(.committed(token: token, Failure(.forbidden, "x"))))
        #expect(refusal(call, failed) == ErrorCode.forbidden.number)
        let (again, more) = script.call(.logCommit(request))
        guard case .commit(_, let second, _)? = outputs(more).first else {
            Issue.record("a position that was refused was taken for committed")
            return
        }
        let done = script.event(.input(.committed(token: second, nil)))
        #expect(Script.answer(to: again, in: done) == .answered(.done(Done())))
    }

    @Test func endsAreNotedOnceAMinute() throws {
        var script = script { $0.sweepsPerNote = 2 }
        _ = try join(&script, ends: [9, 3])
        _ = script.event(.timer(KafkaLogMachine.sweepTimer))
        #expect(outputs(script.event(.timer(KafkaLogMachine.sweepTimer))) == [.note(ends: [9, 3, 0, 0])])
        _ = script.event(.timer(KafkaLogMachine.sweepTimer))
        #expect(outputs(script.event(.timer(KafkaLogMachine.sweepTimer))).isEmpty, "nothing moved")
    }
}
