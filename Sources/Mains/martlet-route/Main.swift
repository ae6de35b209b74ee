import ArgumentParser
import MartletSuite

@main
struct MartletRoute: ServiceExecutable {
    static let role = "route"
    static let abstract = "Forwards by service id, up and down."
    @OptionGroup var options: ServiceOptions
}
