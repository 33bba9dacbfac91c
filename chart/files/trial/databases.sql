-- The databases of a trial, beside that of the control store.
CREATE DATABASE shop;
CREATE DATABASE reporting;
