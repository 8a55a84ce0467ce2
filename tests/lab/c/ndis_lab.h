/* What these drivers need of the kernel's and of NDIS's interfaces, x64: names, orders and values are Microsoft's
 * (pages of the structures and functions), the text is written for these tests. */
#pragma once

typedef unsigned char UCHAR, BOOLEAN, KIRQL;
typedef unsigned short USHORT, WCHAR;
typedef unsigned int ULONG;
typedef int LONG, NTSTATUS, NDIS_STATUS;
typedef unsigned long long ULONGLONG, SIZE_T, ULONG_PTR;
typedef long long LONGLONG;
typedef void *PVOID, *NDIS_HANDLE;

#define STATUS_SUCCESS 0
#define NDIS_STATUS_SUCCESS 0
#define NDIS_STATUS_PENDING 0x103
#define NDIS_STATUS_FAILURE ((NDIS_STATUS)0xC0000001)
#define NDIS_STATUS_RESOURCES ((NDIS_STATUS)0xC000009A)
#define NDIS_STATUS_PAUSED ((NDIS_STATUS)0xC023002A)
#define NDIS_RECEIVE_FLAGS_RESOURCES 2
#define NDIS_RETURN_FLAGS_DISPATCH_LEVEL 1
#define NDIS_SEND_FLAGS_DISPATCH_LEVEL 1
#define NDIS_SEND_COMPLETE_FLAGS_DISPATCH_LEVEL 1

typedef struct { USHORT Length, MaximumLength; WCHAR *Buffer; } UNICODE_STRING;
#define STRING(text) { sizeof(text) - sizeof(WCHAR), sizeof(text), (WCHAR *)(text) }

typedef struct { UCHAR Type, Revision; USHORT Size; } NDIS_OBJECT_HEADER;

typedef struct MDL {
    struct MDL *Next; short Size, MdlFlags; PVOID Process, MappedSystemVa, StartVa; ULONG ByteCount, ByteOffset;
} MDL;

typedef struct NET_BUFFER NET_BUFFER;

typedef struct NET_BUFFER_LIST {
    struct NET_BUFFER_LIST *Next;
    NET_BUFFER *FirstNetBuffer;
    PVOID Context;
    struct NET_BUFFER_LIST *ParentNetBufferList;
    NDIS_HANDLE NdisPoolHandle;
    PVOID Padding;
    PVOID NdisReserved[2];
    PVOID ProtocolReserved[4];
    PVOID MiniportReserved[2];
    PVOID Scratch;
    NDIS_HANDLE SourceHandle;
    ULONG NblFlags;
    LONG ChildRefCount;
    ULONG Flags;
    NDIS_STATUS Status;
} NET_BUFFER_LIST;
_Static_assert(__builtin_offsetof(NET_BUFFER_LIST, SourceHandle) == 0x78, "NET_BUFFER_LIST");

typedef struct {
    NDIS_OBJECT_HEADER Header;
    LONG RequestType;
    ULONG PortNumber, Timeout;
    PVOID RequestId;
    NDIS_HANDLE RequestHandle;
    struct { ULONG Oid; PVOID InformationBuffer; ULONG InformationBufferLength, BytesWritten, BytesNeeded; UCHAR Rest[12]; } Data;
    UCHAR NdisReserved[0x80], MiniportReserved[0x10];
    PVOID SourceReserved[2];
    UCHAR Tail[0x10];
} NDIS_OID_REQUEST;
_Static_assert(sizeof(NDIS_OID_REQUEST) == 0xF8, "NDIS_OID_REQUEST");
_Static_assert(__builtin_offsetof(NDIS_OID_REQUEST, SourceReserved) == 0xD8, "NDIS_OID_REQUEST");

typedef struct {
    NDIS_OBJECT_HEADER Header;
    UCHAR MajorNdisVersion, MinorNdisVersion, MajorDriverVersion, MinorDriverVersion;
    ULONG Flags;
    UNICODE_STRING FriendlyName, UniqueName, ServiceName;
    PVOID SetOptions, SetModuleOptions, Attach, Detach, Restart, Pause;
    PVOID Send, SendComplete, CancelSend, Receive, Return, OidRequest, OidRequestComplete, CancelOidRequest;
    PVOID DevicePnPEvent, NetPnPEvent, Status;
    PVOID DirectOidRequest, DirectOidRequestComplete, CancelDirectOidRequest;
} NDIS_FILTER_DRIVER_CHARACTERISTICS;
_Static_assert(sizeof(NDIS_FILTER_DRIVER_CHARACTERISTICS) == 0xE0, "characteristics, revision 2");

typedef struct { NDIS_OBJECT_HEADER Header; ULONG Flags; } NDIS_FILTER_ATTRIBUTES;
typedef struct {
    NDIS_OBJECT_HEADER Header; UCHAR ProtocolId, fAllocateNetBuffer; USHORT ContextSize; ULONG PoolTag, DataSize;
} NET_BUFFER_LIST_POOL_PARAMETERS;
typedef struct { NDIS_OBJECT_HEADER Header; ULONG AllocationTag; PVOID TimerFunction, FunctionContext; } NDIS_TIMER_CHARACTERISTICS;

typedef struct DRIVER_OBJECT {
    UCHAR Start[0x68];
    void (*DriverUnload)(struct DRIVER_OBJECT *);
    PVOID MajorFunction[28];
} DRIVER_OBJECT;
typedef struct { UCHAR Start[0x30]; union { NTSTATUS Status; PVOID Pointer; }; ULONG_PTR Information; UCHAR Rest[0x78]; UCHAR *StackLocation; } IRP;
_Static_assert(__builtin_offsetof(IRP, StackLocation) == 0xB8, "IRP");

#define IMPORT __declspec(dllimport)
IMPORT NDIS_STATUS NdisFRegisterFilterDriver(DRIVER_OBJECT *, NDIS_HANDLE, NDIS_FILTER_DRIVER_CHARACTERISTICS *, NDIS_HANDLE *);
IMPORT void NdisFDeregisterFilterDriver(NDIS_HANDLE);
IMPORT NDIS_STATUS NdisFSetAttributes(NDIS_HANDLE, NDIS_HANDLE, NDIS_FILTER_ATTRIBUTES *);
IMPORT void NdisFPauseComplete(NDIS_HANDLE);
IMPORT void NdisFSendNetBufferLists(NDIS_HANDLE, NET_BUFFER_LIST *, ULONG, ULONG);
IMPORT void NdisFSendNetBufferListsComplete(NDIS_HANDLE, NET_BUFFER_LIST *, ULONG);
IMPORT void NdisFCancelSendNetBufferLists(NDIS_HANDLE, PVOID);
IMPORT void NdisFIndicateReceiveNetBufferLists(NDIS_HANDLE, NET_BUFFER_LIST *, ULONG, ULONG, ULONG);
IMPORT void NdisFReturnNetBufferLists(NDIS_HANDLE, NET_BUFFER_LIST *, ULONG);
IMPORT NDIS_STATUS NdisFOidRequest(NDIS_HANDLE, NDIS_OID_REQUEST *);
IMPORT void NdisFOidRequestComplete(NDIS_HANDLE, NDIS_OID_REQUEST *, NDIS_STATUS);
IMPORT void NdisFCancelOidRequest(NDIS_HANDLE, PVOID);
IMPORT NDIS_STATUS NdisAllocateCloneOidRequest(NDIS_HANDLE, NDIS_OID_REQUEST *, ULONG, NDIS_OID_REQUEST **);
IMPORT void NdisFreeCloneOidRequest(NDIS_HANDLE, NDIS_OID_REQUEST *);
IMPORT void NdisFIndicateStatus(NDIS_HANDLE, PVOID);
IMPORT NDIS_HANDLE NdisAllocateNetBufferListPool(NDIS_HANDLE, NET_BUFFER_LIST_POOL_PARAMETERS *);
IMPORT void NdisFreeNetBufferListPool(NDIS_HANDLE);
IMPORT NET_BUFFER_LIST *NdisAllocateNetBufferAndNetBufferList(NDIS_HANDLE, USHORT, USHORT, MDL *, ULONG, SIZE_T);
IMPORT void NdisFreeNetBufferList(NET_BUFFER_LIST *);
IMPORT MDL *NdisAllocateMdl(NDIS_HANDLE, PVOID, ULONG);
IMPORT void NdisFreeMdl(MDL *);
IMPORT NDIS_STATUS NdisAllocateTimerObject(NDIS_HANDLE, NDIS_TIMER_CHARACTERISTICS *, NDIS_HANDLE *);
IMPORT BOOLEAN NdisSetTimerObject(NDIS_HANDLE, LONGLONG, LONG, PVOID);
IMPORT BOOLEAN NdisCancelTimerObject(NDIS_HANDLE);
IMPORT void NdisFreeTimerObject(NDIS_HANDLE);

IMPORT PVOID ExAllocatePool2(ULONGLONG, SIZE_T, ULONG);
IMPORT void ExFreePoolWithTag(PVOID, ULONG);
IMPORT KIRQL KeAcquireSpinLockRaiseToDpc(ULONG_PTR *);
IMPORT void KeReleaseSpinLock(ULONG_PTR *, KIRQL);
IMPORT void KeFlushQueuedDpcs(void);
IMPORT LONGLONG KeQueryPerformanceCounter(LONGLONG *);
IMPORT __attribute__((noreturn)) void KeBugCheckEx(ULONG, ULONG_PTR, ULONG_PTR, ULONG_PTR, ULONG_PTR);
IMPORT NTSTATUS IoCreateDevice(DRIVER_OBJECT *, ULONG, UNICODE_STRING *, ULONG, ULONG, BOOLEAN, PVOID *);
IMPORT void IoDeleteDevice(PVOID);
IMPORT NTSTATUS IoCreateSymbolicLink(UNICODE_STRING *, UNICODE_STRING *);
IMPORT NTSTATUS IoDeleteSymbolicLink(UNICODE_STRING *);
IMPORT void IofCompleteRequest(IRP *, char);

/* Each fault of a driver is a build of its own. */
#ifndef FAULT
#define FAULT 0
#endif
#define TAG 0x62614C43
#define POOL_FLAG_NON_PAGED 0x40
