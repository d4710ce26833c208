/* The interface's table: which index is which method, and how many 4-byte words of arguments follow `this` on x86,
   where the callee of a stdcall cleans the stack. The tests compare both with the reference. */
#ifndef FAKE_SLOTS_H
#define FAKE_SLOTS_H

#define SLOT_COUNT 195

#define METHODS(X) \
    X(1, AddRef, 0) X(2, Release, 0) X(3, MemFree, 1) X(4, ErrorDescription, 1) X(5, WorkingDirectory, 1) \
    X(6, Connect, 1) X(7, Disconnect, 0) X(8, IsConnected, 0) X(9, Login, 2) \
    X(86, SymbolsGetAll, 1) X(89, SymbolAdd, 1) X(90, SymbolHide, 1) \
    X(115, GroupsGet, 1) X(117, SymbolInfoUpdated, 2) X(118, UsersGet, 1) X(120, OnlineGet, 1) \
    X(122, TradesGet, 1) X(126, TradeRecordGet, 2) X(128, MarginsGet, 1) X(129, MarginLevelGet, 3) \
    X(130, RequestsGet, 1) X(132, PluginsGet, 1) X(133, PluginParamGet, 2) X(134, MailLast, 2) \
    X(135, NewsGet, 1) X(136, NewsTotal, 0) X(137, NewsTopicGet, 2) X(138, NewsBodyRequest, 1) \
    X(139, NewsBodyGet, 1) X(163, PumpingSwitchEx, 3)

/* Methods of the table that the pump has no business to call: each is a trap that knows its own index. */
#define TRAPS_0(T) T(12) T(15) T(16) T(17) T(18) T(85) T(147) T(174) T(175)
#define TRAPS_1(T) \
    T(10) T(11) T(14) T(19) T(20) T(21) T(22) T(23) T(24) T(25) T(26) T(27) T(28) T(29) T(30) T(31) T(32) T(33) \
    T(36) T(38) T(40) T(41) T(42) T(43) T(44) T(45) T(47) T(48) T(49) T(50) T(51) T(52) T(53) T(54) T(55) T(66) \
    T(84) T(91) T(93) T(95) T(97) T(99) T(100) T(104) T(105) T(106) T(113) T(125) T(127) T(141) T(143) T(144) \
    T(146) T(148) T(149) T(154) T(164) T(165) T(166) T(167) T(168) T(169) T(170) T(171) T(172) T(173) T(176) \
    T(178) T(179) T(180) T(181) T(182) T(183) T(184) T(185) T(186) T(187) T(188)
#define TRAPS_2(T) \
    T(0) T(13) T(34) T(35) T(37) T(39) T(56) T(57) T(58) T(59) T(60) T(61) T(62) T(63) T(64) T(65) T(67) T(72) \
    T(73) T(74) T(77) T(78) T(79) T(81) T(82) T(83) T(87) T(88) T(94) T(98) T(101) T(102) T(107) T(116) T(119) \
    T(121) T(123) T(131) T(145) T(150) T(151) T(152) T(153) T(155) T(156) T(157) T(162) T(189) T(190) T(191) \
    T(192) T(194)
#define TRAPS_3(T) \
    T(46) T(68) T(75) T(76) T(80) T(109) T(110) T(111) T(124) T(140) T(142) T(158) T(177) T(193)
#define TRAPS_4(T) T(69) T(70) T(71) T(103) T(108) T(112) T(114) T(159) T(160) T(161)
#define TRAPS_5(T) T(92) T(96) /* 92 takes two doubles of two words each; so does one of 109's */

#define AS_SLOT(slot, name, words) SLOT_##name = slot,
enum { METHODS(AS_SLOT) };
#undef AS_SLOT

#endif
